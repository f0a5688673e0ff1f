// A TorchScript archive as a trainable model. Runs foreign code: for the child process only.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/model/profile.h"
#include "script_channels.h"
#include "trainable_model.h"

namespace fedwatt::internal {

// A trainable model that becomes an archive again.
class ArchivedModel : public TrainableModel {
 public:
  // The archive with `values` in place of its own, in evaluation mode; of a narrower copy a smaller archive, with the calls of forward inlined and no other method.
  virtual std::string Archive(absl::Span<const float> values) = 0;
};

class ScriptModel : public ArchivedModel {
 public:
  std::string Archive(absl::Span<const float> values) override { return Archive(values, {}); }

  // Throws as ScriptChannels::Profile.
  virtual ModelProfile Profile() const = 0;
  // What can be dropped of the whole archive, followed when it is first asked for; not proven.
  virtual ScriptChannels& Channels() = 0;

  // Takes tensors out of the layout and forgets their values: from now on Use() gives them. Of a whole archive, once; there is no Profile() and no following of channels any more.
  virtual void Detach(absl::Span<const std::string> names) = 0;
  // What forward passes compute with in place of a detached tensor, until the next Load. Gradients reach what `value` was made from.
  virtual void Use(const std::string& name, const at::Tensor& value) = 0;
  // As above, with what was detached.
  virtual std::string Archive(absl::Span<const float> values, const std::map<std::string, at::Tensor>& detached) = 0;
};

// Errors: INVALID_ARGUMENT  not an archive; a parameter that is not float32; a buffer that is neither float32 nor int64; tensors that
//                           share memory; channels to keep that can't be found in it
absl::StatusOr<std::unique_ptr<ScriptModel>> MakeScriptModel(const ArchitectureSpec& spec, std::string archive);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_MODEL_H_
