#include "fedwatt/round/compression_settings.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/round/rate_control.h"

namespace fedwatt {

const std::vector<CompressionPreset>& CompressionPresets() {
  static const auto* presets = new std::vector<CompressionPreset>{
      {"float32", "float32", "float32", "nothing is compressed"},
      {"no_regret", "dct,dithered:rate=0.6", "chain:multiple=0.25", "as good as float32 in as many rounds, at a fiftieth of its bytes or less"},
      {"smallest", "dct,dithered:multiple=18", "chain:multiple=1.45", "fewest bytes to an accuracy; may take a few more rounds"},
  };
  return *presets;
}

absl::StatusOr<CompressionPreset> FindCompressionPreset(std::string_view name) {
  std::vector<std::string> names;
  for (const CompressionPreset& preset : CompressionPresets()) {
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  const std::string nearest = NearestName(name, names);
  return absl::NotFoundError(absl::StrCat("unknown compression preset '", std::string(name), "'",
                                          nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"), "; known: ", absl::StrJoin(names, ", ")));
}

absl::Status CheckUplink(std::string_view spec) {
  if (IsChain(spec)) return absl::InvalidArgumentError("a chain is for the downlink; updates have 'ef'");
  FEDWATT_ASSIGN_OR_RETURN(RateControl rate, RateControl::Create(spec));
  return Pipeline::Create(rate.spec()).status();
}

absl::Status CheckDownlink(std::string_view spec) {
  if (IsChain(spec)) return ParseChain(spec).status();
  FEDWATT_ASSIGN_OR_RETURN(Pipeline pipeline, Pipeline::Create(spec));
  if (!pipeline.error_feedback()) return absl::OkStatus();
  return absl::InvalidArgumentError("'ef' is for updates; a 'chain' carries what it does not send by itself");
}

}  // namespace fedwatt
