#include "model_cache.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/container.h"

namespace fedwatt::internal {

void ModelCache::Load() {
  if (std::exchange(read_disk_, true) || path_.empty()) return;
  absl::StatusOr<std::string> stored = ReadFile(path_, max_bytes_);
  if (!stored.ok()) return;
  // Damage shows in the container's checksums; then the model is fetched again.
  absl::StatusOr<DecodedModel> model = DecodeModel(*stored, max_bytes_);
  if (!model.ok()) return;
  digest_ = ModelDigest(model->layout, model->values);
  model_ = std::make_shared<const DecodedModel>(*std::move(model));
}

void ModelCache::Keep(DecodedModel model, const Digest& digest) {
  digest_ = digest;
  model_ = std::make_shared<const DecodedModel>(std::move(model));
  if (path_.empty()) return;
  ContainerHeader header;
  header.kind = ContainerKind::kModel;
  header.codec = std::string(kChainStage);
  header.layout = model_->layout;
  const std::string payload = WriteChainPosition(model_->position.value_or(ChainPosition{"", model_->values}));
  // Only a cache: training goes on without it.
  if (absl::Status status = WriteFileAtomically(path_, WriteContainer(header, payload), 0600); !status.ok()) {
    Log(log_, LogLevel::kWarning, absl::StrCat("the model is not kept: ", std::string(status.message())));
  }
}

std::optional<Digest> ModelCache::held() {
  absl::MutexLock lock(&mutex_);
  Load();
  if (model_ == nullptr) return std::nullopt;
  return digest_;
}

absl::StatusOr<std::shared_ptr<const DecodedModel>> ModelCache::Get(const WantedModel& wanted,
                                                                    const std::function<absl::StatusOr<std::string>()>& fetch,
                                                                    const std::function<absl::StatusOr<DecodedModel>()>& make_initial) {
  absl::MutexLock lock(&mutex_);
  Load();
  if (model_ != nullptr && digest_ == wanted.digest) return model_;
  DecodedModel model;
  if (!wanted.base.has_value()) {
    FEDWATT_ASSIGN_OR_RETURN(std::string container, fetch());
    FEDWATT_ASSIGN_OR_RETURN(model, DecodeModel(container, max_bytes_));
  } else {
    if (model_ != nullptr && digest_ == *wanted.base) {
      model = *model_;
    } else {
      absl::StatusOr<DecodedModel> initial = make_initial();
      if (!initial.ok() || ModelDigest(initial->layout, initial->values) != *wanted.base) {
        return absl::FailedPreconditionError(absl::StrCat("model: a delta from version ", wanted.base->Hex().substr(0, 12), ", which is not held here"));
      }
      model = *std::move(initial);
    }
    if (wanted.digest != *wanted.base) {
      FEDWATT_ASSIGN_OR_RETURN(std::string container, fetch());
      FEDWATT_RETURN_IF_ERROR(ApplyModelDelta(container, max_bytes_, model));
    }
  }
  if (const Digest got = ModelDigest(model.layout, model.values); got != wanted.digest) {
    return absl::DataLossError(absl::StrCat("model: version ", got.Hex().substr(0, 12), " came out, ", wanted.digest.Hex().substr(0, 12), " was announced"));
  }
  Keep(std::move(model), wanted.digest);
  return model_;
}

}  // namespace fedwatt::internal
