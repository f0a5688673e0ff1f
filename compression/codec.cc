#include "fedwatt/compression/codec.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {

namespace internal {
void InstallCodecs(CodecRegistry& registry);
}  // namespace internal

CodecRegistry& Codecs() {
  static auto* registry = [] {
    auto* made = new CodecRegistry("codec");
    internal::InstallCodecs(*made);
    return made;
  }();
  return *registry;
}

absl::Status Codec::DecodeSparse(std::string_view, const CodingContext&, SparseValues&) const {
  return absl::UnimplementedError(absl::StrCat(std::string(name()), ": decodes whole vectors only"));
}

absl::StatusOr<StageSpec> ParseStage(std::string_view spec) {
  const std::vector<std::string> parts = absl::StrSplit(absl::string_view(spec.data(), spec.size()), ':');
  StageSpec stage;
  stage.name = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    if (equals == 0 || equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("stage '", parts[0], "': expected key=value, got '", parts[i], "'"));
    }
    if (!stage.options.emplace(parts[i].substr(0, equals), parts[i].substr(equals + 1)).second) {
      return absl::InvalidArgumentError(absl::StrCat("stage '", parts[0], "': option '", parts[i].substr(0, equals), "' is given twice"));
    }
  }
  return stage;
}

absl::StatusOr<std::unique_ptr<Codec>> MakeCodec(std::string_view spec) {
  FEDWATT_ASSIGN_OR_RETURN(StageSpec stage, ParseStage(spec));
  FEDWATT_ASSIGN_OR_RETURN(CodecFactory factory, Codecs().Find(stage.name));
  return factory(stage.options);
}

}  // namespace fedwatt
