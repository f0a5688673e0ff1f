// A TorchScript archive as a trainable model. Runs foreign code: for the child process only.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/model/profile.h"
#include "script_channels.h"
#include "trainable_model.h"

namespace fedwatt::internal {

class ScriptModel : public TrainableModel {
 public:
  // The archive with `values` in place of its own, in evaluation mode; of a narrower copy a smaller archive, with the calls of forward inlined and no other method.
  virtual std::string Archive(absl::Span<const float> values) = 0;
  // Throws as ScriptChannels::Profile.
  virtual ModelProfile Profile() const = 0;
  // What can be dropped of the whole archive, followed when it is first asked for; not proven.
  virtual ScriptChannels& Channels() = 0;
};

// Errors: INVALID_ARGUMENT  not an archive; a parameter that is not float32; a buffer that is neither float32 nor int64; tensors that
//                           share memory; channels to keep that can't be found in it
absl::StatusOr<std::unique_ptr<ScriptModel>> MakeScriptModel(const ArchitectureSpec& spec, std::string archive);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_
