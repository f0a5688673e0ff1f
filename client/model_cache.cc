#include "model_cache.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/container.h"

namespace fedwatt::internal {

std::string ModelCache::FileOf(const Digest& layout) const { return absl::StrCat(path_, "-", layout.Hex().substr(0, 16), ".fwt"); }

void ModelCache::Load() {
  if (std::exchange(read_disk_, true) || path_.empty()) return;
  const std::filesystem::path path(path_);
  const std::string prefix = absl::StrCat(path.filename().string(), "-");
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(path.parent_path(), error)) {
    if (!absl::StartsWith(file.path().filename().string(), prefix) || file.path().extension() != ".fwt") continue;
    absl::StatusOr<std::string> stored = ReadFile(file.path().string(), max_bytes_);
    if (!stored.ok()) continue;
    // Damage shows in the container's checksums; then the model is fetched again.
    absl::StatusOr<DecodedModel> model = DecodeModel(*stored, max_bytes_);
    if (!model.ok()) continue;
    const Digest layout = model->layout.digest(), digest = ModelDigest(model->layout, model->values);
    models_[layout] = Held{digest, std::make_shared<const DecodedModel>(*std::move(model)), 0};
  }
  MakeRoom();
}

void ModelCache::MakeRoom() {
  while (models_.size() > kMostModels) {
    const auto oldest = std::min_element(models_.begin(), models_.end(), [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; });
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(FileOf(oldest->first), ignored);
    models_.erase(oldest);
  }
}

std::shared_ptr<const DecodedModel> ModelCache::Find(const Digest& digest) {
  for (auto& [layout, held] : models_) {
    if (held.digest != digest) continue;
    held.last_use = ++uses_;
    return held.model;
  }
  return nullptr;
}

std::shared_ptr<const DecodedModel> ModelCache::Keep(DecodedModel model, const Digest& digest) {
  auto kept = std::make_shared<const DecodedModel>(std::move(model));
  {
    absl::MutexLock lock(&mutex_);
    models_[kept->layout.digest()] = Held{digest, kept, ++uses_};
    MakeRoom();
  }
  if (path_.empty()) return kept;
  ContainerHeader header;
  header.kind = ContainerKind::kModel;
  header.codec = std::string(kChainStage);
  header.layout = kept->layout;
  const std::string payload = WriteChainPosition(kept->position.value_or(ChainPosition{"", kept->values}));
  // Only a cache: training goes on without it.
  if (absl::Status status = WriteFileAtomically(FileOf(kept->layout.digest()), WriteContainer(header, payload), 0600); !status.ok()) {
    Log(log_, LogLevel::kWarning, absl::StrCat("the model is not kept: ", std::string(status.message())));
  }
  return kept;
}

std::vector<Digest> ModelCache::held() {
  absl::MutexLock lock(&mutex_);
  Load();
  std::vector<const Held*> order;
  for (const auto& [layout, held] : models_) order.push_back(&held);
  std::stable_sort(order.begin(), order.end(), [](const Held* a, const Held* b) { return a->last_use > b->last_use; });
  std::vector<Digest> digests;
  for (const Held* held : order) digests.push_back(held->digest);
  return digests;
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
    if (std::shared_ptr<const DecodedModel> model = Find(wanted.digest); model != nullptr) return model;
    if (wanted.base.has_value()) {
      if (std::shared_ptr<const DecodedModel> base = Find(*wanted.base); base != nullptr) held = *base;
    }
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
