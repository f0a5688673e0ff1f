// What a run's settings say about its model and data; private to the room.
#ifndef FEDWATT_REPORT_SETTINGS_H_
#define FEDWATT_REPORT_SETTINGS_H_

#include <string>
#include <string_view>

#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// The effective setting; "" where the record does not have it.
inline std::string SettingOf(const RunRecord& run, std::string_view key) {
  if (!run.summary) return "";
  for (const SettingWithOrigin& setting : run.summary->config) {
    if (setting.key == key) return setting.value;
  }
  return "";
}

// In BoAmps' words: "image", "text", "tabular" or, where the format does not say, "other".
inline std::string DataTypeOf(const RunRecord& run) {
  const std::string format = SettingOf(run, "data.format");
  return format == "idx" || format == "cifar10" ? "image" : format == "text" ? "text" : format == "csv" ? "tabular" : "other";
}

// "mlp_2nn", "TorchScript archive m.pt", or "not recorded".
inline std::string ModelName(const RunRecord& run) {
  if (const std::string path = SettingOf(run, "model.torchscript"); !path.empty()) return "TorchScript archive " + path;
  const std::string name = SettingOf(run, "model.architecture");
  return name.empty() ? "not recorded" : name;
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_SETTINGS_H_
