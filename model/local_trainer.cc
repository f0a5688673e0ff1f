#include "fedwatt/model/local_trainer.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {

std::optional<double> RecordableLoss(double loss) {
  if (!std::isfinite(loss) || std::abs(loss) > kMaxLoss) return std::nullopt;
  return loss;
}

absl::Status CheckFloat32Only(std::string_view format) {
  if (format == "float32") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("this model's trainer knows float32 only, not ", std::string(format)));
}

std::vector<double> LocalTrainer::UsesPerExample() const {
  std::vector<double> uses;
  for (const LayoutEntry& entry : layout().entries()) uses.push_back(entry.kind == EntryKind::kLocal ? 0 : 1);
  return uses;
}

double MacsPerExample(const ParameterLayout& layout, absl::Span<const double> uses) {
  FEDWATT_CHECK(uses.size() == layout.entries().size());
  double macs = 0;
  for (size_t i = 0; i < uses.size(); ++i) macs += uses[i] * static_cast<double>(layout.entries()[i].element_count());
  return macs;
}

}  // namespace fedwatt
