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

std::shared_ptr<const DecodedModel> ModelCache::Keep(DecodedModel model, const Digest& digest) {
  auto kept = std::make_shared<const DecodedModel>(std::move(model));
  {
    absl::MutexLock lock(&mutex_);
    digest_ = digest;
    model_ = kept;
  }
  if (path_.empty()) return kept;
  ContainerHeader header;
  header.kind = ContainerKind::kModel;
  header.codec = std::string(kChainStage);
  header.layout = kept->layout;
  const std::string payload = WriteChainPosition(kept->position.value_or(ChainPosition{"", kept->values}));
  // Only a cache: training goes on without it.
  if (absl::Status status = WriteFileAtomically(path_, WriteContainer(header, payload), 0600); !status.ok()) {
    Log(log_, LogLevel::kWarning, absl::StrCat("the model is not kept: ", std::string(status.message())));
  }
  return kept;
}

std::optional<Digest> ModelCache::held() {
  absl::MutexLock lock(&mutex_);
  Load();
  if (model_ == nullptr) return std::nullopt;
  return digest_;
}

absl::StatusOr<DecodedModel> ModelCache::FollowDelta(const WantedModel& wanted, const std::function<absl::StatusOr<std::string>()>& fetch,
                                                     const std::function<absl::StatusOr<DecodedModel>()>& make_initial, DecodedModel* held) {
  DecodedModel model;
  if (held != nullptr) {
    model = std::move(*held);
  } else {
    absl::StatusOr<DecodedModel> initial = make_initial();
    if (!initial.ok() || ModelDigest(initial->layout, initial->values) != *wanted.base) {
      return absl::FailedPreconditionError(absl::StrCat("model: a delta from version ", wanted.base->Hex().substr(0, 12), ", which is not held here"));
    }
    model = *std::move(initial);
  }
  if (wanted.digest == *wanted.base) return model;
  FEDWATT_ASSIGN_OR_RETURN(std::string container, fetch());
  // Whatever is wrong with a delta, a whole model mends it.
  if (absl::Status applied = ApplyModelDelta(container, max_bytes_, model); !applied.ok()) return absl::FailedPreconditionError(applied.message());
  if (ModelDigest(model.layout, model.values) != wanted.digest) {
    return absl::FailedPreconditionError(absl::StrCat("model: the delta does not lead to version ", wanted.digest.Hex().substr(0, 12)));
  }
  return model;
}

absl::StatusOr<std::shared_ptr<const DecodedModel>> ModelCache::Get(const WantedModel& wanted,
                                                                    const std::function<absl::StatusOr<std::string>()>& fetch,
                                                                    const std::function<absl::StatusOr<DecodedModel>()>& make_initial) {
  absl::MutexLock one_at_a_time(&fetching_);
  std::optional<DecodedModel> held;
  {
    absl::MutexLock lock(&mutex_);
    Load();
    if (model_ != nullptr && digest_ == wanted.digest) return model_;
    if (model_ != nullptr && wanted.base == digest_) held = *model_;
  }
  if (wanted.base.has_value()) {
    FEDWATT_ASSIGN_OR_RETURN(DecodedModel model, FollowDelta(wanted, fetch, make_initial, held.has_value() ? &*held : nullptr));
    return Keep(std::move(model), wanted.digest);
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string container, fetch());
  FEDWATT_ASSIGN_OR_RETURN(DecodedModel model, DecodeModel(container, max_bytes_));
  if (const Digest got = ModelDigest(model.layout, model.values); got != wanted.digest) {
    return absl::DataLossError(absl::StrCat("model: version ", got.Hex().substr(0, 12), " came out, ", wanted.digest.Hex().substr(0, 12), " was announced"));
  }
  return Keep(std::move(model), wanted.digest);
}

}  // namespace fedwatt::internal
