// Settings are merged to values in range or refused as INVALID_ARGUMENT.
// Input: lines "key=value", as flags.
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/settings.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {

std::vector<std::string> testing::FuzzSeeds() {
  return {"federation.rounds=3\nfederation.quorum=0.5\n",
          "model.sandbox=best\nmodel.max_silence=90s\nserver.transfer_grace=1m",
          "fit.policy=by_capability\nfit.widths=[1, 0.5]\n",
          "client.partition=0-24/100\nclient.codecs=[\"int8\"]",
          "model.options={dropout = \"0.1\"}\nprivacy.clip_norm=1e3",
          "data.format=csv\nseed=7"};
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  SettingsSources sources;
  for (absl::string_view line : absl::StrSplit(absl::string_view(reinterpret_cast<const char*>(data), size), '\n')) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (!line.empty()) sources.flags.push_back({std::string(parts.first), std::string(parts.second), "--set"});
  }
  const absl::StatusOr<LoadedSettings> loaded = LoadSettings(sources);
  testing::fuzz_accepted = loaded.ok();
  FEDWATT_CHECK(loaded.ok() || absl::IsInvalidArgument(loaded.status()));
  return 0;
}
