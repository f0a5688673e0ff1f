#include "network_lines.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "format.h"

namespace fedwatt::internal {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 60;  // more is nobody's
// At which rate the power model takes the bytes to move: a home's.
constexpr double kHomeMbps = 20;

struct Timeline {
  absl::Duration now;
  std::vector<RadioBurst> bursts;
};

std::string Between(const ModelledJoules& joules) {
  return absl::StrCat("~", Significant(joules.value), " J, between ", Significant(joules.low), " and ", Significant(joules.high));
}

}  // namespace

std::optional<NetworkReport> MakeNetworkReport(const std::vector<AttemptRecord>& attempts, bool simulated, std::optional<absl::Time> now, const NetworkModels& models) {
  NetworkReport report;
  std::map<std::string, Timeline> clients;
  for (const AttemptRecord& attempt : attempts) {
    const auto bytes = [&](const std::optional<int64_t>& payload, const std::optional<int64_t>& wire, const std::optional<int64_t>& headers) {
      report.complete = report.complete && (wire || payload);
      return std::min(kMostBytes, wire.value_or(payload.value_or(0))) + std::min(kMostBytes, headers.value_or(0));
    };
    const int64_t down = bytes(attempt.downlink_payload_bytes, attempt.downlink_wire_bytes, attempt.downlink_header_bytes);
    const int64_t up = bytes(attempt.uplink_payload_bytes, attempt.uplink_wire_bytes, attempt.uplink_header_bytes);
    report.bytes += static_cast<double>(down) + static_cast<double>(up);
    Timeline& client = clients[attempt.client];
    for (const PhaseSpan& span : attempt.between) client.now += span.wall;
    if (down > 0) client.bursts.push_back({client.now, down, 0});
    // The model comes first and the update goes last, whatever is in between.
    absl::Duration uploading;
    for (const PhaseSpan& span : attempt.phases) (span.phase == Phase::kUpload ? uploading : client.now) += span.wall;
    if (up > 0) client.bursts.push_back({client.now, 0, up});
    client.now += uploading;
  }
  if (report.bytes <= 0) return std::nullopt;
  const auto add = [](ModelledJoules& sum, const ModelledJoules& more) {
    sum.low += more.low;
    sum.value += more.value;
    sum.high += more.high;
  };
  for (const RadioModel& model : models.radios) {
    NetworkReport::Radio& radio = report.radios.emplace_back();
    radio.model = &model;
    for (const auto& [name, client] : clients) add(radio.joules, RadioEnergy(model, client.bursts));
    if (simulated) continue;
    radio.kept_alive.emplace();
    for (const auto& [name, client] : clients) add(*radio.kept_alive, RadioEnergy(model, client.bursts, kKeepAlive));
  }
  for (const AllocatedIntensity& intensity : models.allocations) {
    const double year = now ? 1970 + absl::ToDoubleHours(*now - absl::UnixEpoch()) / (24 * 365.25) : intensity.year;
    report.allocated.push_back({&intensity, AllocatedJoules(intensity, report.bytes, year)});
  }
  report.power_model = &models.power_model;
  report.by_power = PowerModelEnergy(models.power_model, report.bytes, kHomeMbps);
  return report;
}

std::vector<std::pair<std::string, std::string>> NetworkLines(const NetworkReport& report) {
  std::vector<std::pair<std::string, std::string>> lines;
  lines.emplace_back("network, modelled", absl::StrCat(Significant(report.bytes / 1e6), " MB; no meter saw these joules, and they are in no sum",
                                                       report.complete ? "" : "; some attempts do not tell their bytes"));
  for (const NetworkReport::Radio& radio : report.radios) {
    lines.emplace_back("", absl::StrCat("devices' radios, were all on ", radio.model->link, " and silent while they wait: ", Between(radio.joules), " (", radio.model->year, ")"));
    if (radio.kept_alive) {
      lines.emplace_back("", absl::StrCat("  with a ping every ", absl::FormatDuration(kKeepAlive), " between transfers: ~", Significant(radio.kept_alive->value), " J"));
    }
  }
  for (const NetworkReport::Allocated& allocated : report.allocated) {
    lines.emplace_back("", absl::StrCat("share of networks by bytes, ", allocated.intensity->name, ": ~", Significant(allocated.joules), " J (", Significant(allocated.intensity->kwh_per_gb),
                                        " kWh/GB in ", allocated.intensity->year, allocated.intensity->halving_years ? ", halved since" : "", ")"));
  }
  lines.emplace_back("", absl::StrCat("networks' power while they transfer, of which only the least is saved by fewer bytes: ", Between(report.by_power), " (", report.power_model->year, ")"));
  return lines;
}

}  // namespace fedwatt::internal
