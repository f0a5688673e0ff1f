#include "adapted_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {

std::vector<float> OrthonormalRows(int64_t rank, int64_t n, uint64_t seed) {
  FEDWATT_CHECK(rank >= 1 && rank < n);
  Random random(DeriveSeed("adapter", {seed}));
  std::vector<double> rows(static_cast<size_t>(rank * n));
  for (int64_t r = 0; r < rank; ++r) {
    double* row = rows.data() + r * n;
    for (int64_t i = 0; i < n; ++i) row[i] = random.Normal();
    // Twice, since once leaves rounding errors where little of the row is left (Gram, Schmidt; Kahan's "twice is enough").
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t before = 0; before < r; ++before) {
        const double* other = rows.data() + before * n;
        double along = 0;
        for (int64_t i = 0; i < n; ++i) along += row[i] * other[i];
        for (int64_t i = 0; i < n; ++i) row[i] -= along * other[i];
      }
      double squares = 0;
      for (int64_t i = 0; i < n; ++i) squares += row[i] * row[i];
      const double scale = 1 / std::sqrt(squares);
      for (int64_t i = 0; i < n; ++i) row[i] *= scale;
    }
  }
  return std::vector<float>(rows.begin(), rows.end());
}

namespace {

// A weight that is not trained itself.
struct Frozen {
  std::string name;
  std::vector<int64_t> shape;
  at::Tensor integers;  // int8 [m, n]
  at::Tensor scales;    // [m, 1]; a row is integers * scale
  at::Tensor down;      // A: [rank, n]
  int64_t offset = 0;   // of B in the layout
};

std::string AdapterName(const std::string& weight) { return weight + ".adapter"; }

class AdaptedModel : public ArchivedModel {
 public:
  AdaptedModel(std::unique_ptr<ScriptModel> model, int64_t rank) : model_(std::move(model)), rank_(rank) {}

  absl::Status Adapt(uint64_t seed) {
    const ParameterLayout whole = model_->layout();
    const std::vector<double> uses = model_->Channels().uses();
    std::vector<float> values = model_->InitialValues(0);
    model_->Load(values);
    const std::vector<int64_t> trained = model_->parameter_offsets();
    std::vector<LayoutEntry> entries;
    std::vector<std::string> detached;
    for (size_t i = 0; i < whole.entries().size(); ++i) {
      const LayoutEntry& entry = whole.entries()[i];
      const int64_t rows = entry.shape.empty() ? 1 : entry.shape[0], columns = entry.element_count() / rows;
      if (columns <= rank_ || !std::binary_search(trained.begin(), trained.end(), whole.offset(i)) || entry.kind != EntryKind::kParameter) {
        entries.push_back(entry);
        uses_.push_back(uses[i]);
        continue;
      }
      Frozen& frozen = frozen_.emplace_back();
      frozen.name = entry.name;
      frozen.shape = entry.shape;
      const at::Tensor weight = at::from_blob(values.data() + whole.offset(i), {rows, columns}, at::kFloat);
      frozen.scales = weight.abs().amax(1, /*keepdim=*/true).div_(127).clamp_min_(1e-30);
      frozen.integers = at::round(weight / frozen.scales).to(at::kChar);
      std::vector<float> down = OrthonormalRows(rank_, columns, DeriveSeed("adapted weight", {seed, static_cast<uint64_t>(i)}));
      frozen.down = at::from_blob(down.data(), {rank_, columns}, at::kFloat).clone();
      entries.push_back({AdapterName(entry.name), {rows, rank_}, EntryKind::kParameter, Dtype::kFloat32});
      // The frozen weight's multiply-adds, so that those of the network are the sum over its layout as ever.
      uses_.push_back(uses[i] * static_cast<double>(columns) / static_cast<double>(rank_));
      detached.push_back(entry.name);
    }
    if (frozen_.empty()) return absl::InvalidArgumentError(absl::StrCat("adapter_rank = ", rank_, ": no weight of the archive has more values a row; expected a smaller one"));
    FEDWATT_ASSIGN_OR_RETURN(layout_, ParameterLayout::Create(std::move(entries)));
    model_->Detach(detached);
    size_t next = 0;
    for (size_t i = 0; i < layout_.entries().size(); ++i) {
      const LayoutEntry& entry = layout_.entries()[i];
      if (next < frozen_.size() && entry.name == AdapterName(frozen_[next].name)) {
        frozen_[next++].offset = layout_.offset(i);
      } else if (entry.kind != EntryKind::kLocal) {
        kept_.push_back({layout_.offset(i), entry.element_count()});
      }
    }
    return absl::OkStatus();
  }

  const ParameterLayout& layout() const override { return layout_; }
  std::optional<std::vector<double>> uses_per_example() const override { return uses_; }
  absl::Status CheckData(const Dataset& data) const override { return model_->CheckData(data); }

  void Load(absl::Span<const float> values) override {
    model_->Load(Kept(values));
    up_.clear();
    std::vector<std::pair<int64_t, at::Tensor>> trained;  // by offset
    for (const Frozen& frozen : frozen_) {
      up_.push_back(at::from_blob(const_cast<float*>(values.data()) + frozen.offset, {frozen.integers.size(0), rank_}, at::kFloat).clone().set_requires_grad(true));
      trained.emplace_back(frozen.offset, up_.back());
    }
    for (size_t i = 0; i < model_->parameters().size(); ++i) trained.emplace_back(OffsetOfKept(model_->parameter_offsets()[i]), model_->parameters()[i]);
    std::sort(trained.begin(), trained.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    offsets_.clear();
    parameters_.clear();
    for (auto& [offset, tensor] : trained) {
      offsets_.push_back(offset);
      parameters_.push_back(std::move(tensor));
    }
    merged_ = false;
  }

  void Save(absl::Span<float> values) const override {
    std::vector<float> kept(static_cast<size_t>(model_->layout().value_count()));
    model_->Save(absl::MakeSpan(kept));
    Spread(kept, values);
    for (size_t i = 0; i < frozen_.size(); ++i) std::copy_n(up_[i].data_ptr<float>(), up_[i].numel(), values.begin() + frozen_[i].offset);
  }

  const std::vector<at::Tensor>& parameters() const override { return parameters_; }
  const std::vector<int64_t>& parameter_offsets() const override { return offsets_; }
  void Seed(uint64_t seed) override { model_->Seed(seed); }

  at::Tensor Forward(const at::Tensor& input, bool training) override {
    if (training || !merged_) {
      for (size_t i = 0; i < frozen_.size(); ++i) model_->Use(frozen_[i].name, Merged(frozen_[i], up_[i]));
    }
    merged_ = !training;  // after a step other weights
    return model_->Forward(input, training);
  }

  int64_t evaluation_batch_size() const override { return model_->evaluation_batch_size(); }

  std::vector<float> InitialValues(uint64_t seed) override {
    const std::vector<float> kept = model_->InitialValues(seed);
    std::vector<float> values(static_cast<size_t>(layout_.value_count()));
    Spread(kept, absl::MakeSpan(values));
    return values;
  }

  std::string Archive(absl::Span<const float> values) override {
    at::NoGradGuard no_grad;
    std::map<std::string, at::Tensor> weights;
    for (const Frozen& frozen : frozen_) {
      const at::Tensor up = at::from_blob(const_cast<float*>(values.data()) + frozen.offset, {frozen.integers.size(0), rank_}, at::kFloat);
      weights[frozen.name] = Merged(frozen, up).clone();
    }
    return model_->Archive(Kept(values), weights);
  }

 private:
  static at::Tensor Merged(const Frozen& frozen, const at::Tensor& up) {
    const at::Tensor weight = frozen.integers.to(at::kFloat).mul_(frozen.scales);
    return at::addmm(weight, up, frozen.down).view(frozen.shape);
  }

  // What the archive itself has of the layout's values.
  std::vector<float> Kept(absl::Span<const float> values) const {
    std::vector<float> kept;
    kept.reserve(static_cast<size_t>(model_->layout().value_count()));
    for (const auto& [offset, count] : kept_) kept.insert(kept.end(), values.begin() + offset, values.begin() + offset + count);
    return kept;
  }

  // And back.
  void Spread(const std::vector<float>& kept, absl::Span<float> values) const {
    const float* from = kept.data();
    for (const auto& [offset, count] : kept_) {
      std::copy_n(from, count, values.begin() + offset);
      from += count;
    }
  }

  int64_t OffsetOfKept(int64_t at) const {
    for (const auto& [offset, count] : kept_) {
      if (at < count) return offset + at;
      at -= count;
    }
    FEDWATT_CHECK(false);
    return 0;
  }

  const std::unique_ptr<ScriptModel> model_;
  const int64_t rank_;
  ParameterLayout layout_;
  std::vector<double> uses_;
  std::vector<Frozen> frozen_;
  std::vector<std::pair<int64_t, int64_t>> kept_;  // offset and count in the layout of what the archive itself still has, in order
  std::vector<at::Tensor> up_;                     // B of each frozen weight
  std::vector<at::Tensor> parameters_;
  std::vector<int64_t> offsets_;
  bool merged_ = false;  // the archive computes with the weights that are loaded
};

}  // namespace

absl::StatusOr<std::unique_ptr<ArchivedModel>> MakeAdaptedModel(std::unique_ptr<ScriptModel> model, int64_t rank, uint64_t seed) {
  return CatchTorch([&]() -> absl::StatusOr<std::unique_ptr<ArchivedModel>> {
    auto adapted = std::make_unique<AdaptedModel>(std::move(model), rank);
    FEDWATT_RETURN_IF_ERROR(adapted->Adapt(seed));
    return adapted;
  });
}

}  // namespace fedwatt::internal
