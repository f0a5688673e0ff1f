#include "fedwatt/energy/network.h"

#include <algorithm>
#include <cmath>

#include "fedwatt/base/status_macros.h"
#include "json_members.h"
#include "network_data.h"

namespace fedwatt {
namespace {

using internal::Json;
using internal::Members;

constexpr double kBitsPerMegabit = 1e6;

double Megabits(double bytes) { return bytes * 8 / kBitsPerMegabit; }

}  // namespace

ModelledJoules RadioEnergy(const RadioModel& model, absl::Span<const RadioBurst> bursts, absl::Duration keep_alive) {
  if (bursts.empty()) return {};
  const double promotion = absl::ToDoubleSeconds(model.promotion) * model.promotion_watts;
  const auto tail = [&](absl::Duration span) { return absl::ToDoubleSeconds(std::min(span, model.tail)) * model.tail_watts; };
  // Between two activities this far apart, the promotion before the second included.
  const auto quiet = [&](absl::Duration span) { return tail(span) + (span > model.tail ? promotion : 0); };
  double joules = promotion;
  absl::Duration end = bursts[0].start;
  for (const RadioBurst& burst : bursts) {
    absl::Duration gap = std::max(absl::ZeroDuration(), burst.start - end);
    if (gap > absl::ZeroDuration()) {
      if (keep_alive < gap && keep_alive > absl::ZeroDuration()) {
        const double pings = std::floor(absl::FDivDuration(gap, keep_alive));
        joules += pings * quiet(keep_alive);
        gap -= pings * keep_alive;
      }
      joules += quiet(gap);
    }
    const double down = Megabits(static_cast<double>(burst.downlink_bytes)) / model.downlink_mbps, up = Megabits(static_cast<double>(burst.uplink_bytes)) / model.uplink_mbps;
    joules += down * (model.active_watts + model.downlink_watts_per_mbps * model.downlink_mbps) + up * (model.active_watts + model.uplink_watts_per_mbps * model.uplink_mbps);
    end = std::max(end, burst.start) + absl::Seconds(down + up);
  }
  joules += tail(model.tail);
  return {joules / model.factor, joules, joules * model.factor};
}

double AllocatedJoules(const AllocatedIntensity& intensity, double bytes, double year) {
  const double halvings = intensity.halving_years ? std::max(0.0, year - intensity.year) / *intensity.halving_years : 0;
  return bytes / 1e9 * intensity.kwh_per_gb * std::exp2(-halvings) * 3.6e6;
}

ModelledJoules PowerModelEnergy(const NetworkPowerModel& model, double bytes, double mbps) {
  const double marginal = Megabits(bytes) * model.watts_per_mbps;
  const double all = marginal + model.base_watts * Megabits(bytes) / mbps;
  return {marginal, all, all};
}

absl::StatusOr<NetworkModels> ParseNetworkModels(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("network models: not a JSON object");
  if (json.value("schema", Json()) != "fedwatt.network.v1") return absl::InvalidArgumentError("network models: schema: expected \"fedwatt.network.v1\"");
  NetworkModels models;
  FEDWATT_RETURN_IF_ERROR(internal::ReadList(json, "network models", "radios", [&](Members& in) {
    RadioModel& radio = models.radios.emplace_back();
    radio.link = in.Text("link");
    radio.uplink_mbps = in.Number("uplink_mbps", 1e-3, 1e6);
    radio.downlink_mbps = in.Number("downlink_mbps", 1e-3, 1e6);
    radio.active_watts = in.Number("active_watts", 0, 100);
    radio.uplink_watts_per_mbps = in.Number("uplink_watts_per_mbps", 0, 100);
    radio.downlink_watts_per_mbps = in.Number("downlink_watts_per_mbps", 0, 100);
    radio.promotion = in.Seconds("promotion_seconds");
    radio.promotion_watts = in.Number("promotion_watts", 0, 100);
    radio.tail = in.Seconds("tail_seconds");
    radio.tail_watts = in.Number("tail_watts", 0, 100);
    radio.factor = in.Number("factor", 1, 1000);
    radio.year = in.Year();
    radio.source = in.Text("source");
  }));
  FEDWATT_RETURN_IF_ERROR(internal::ReadList(json, "network models", "allocations", [&](Members& in) {
    AllocatedIntensity& intensity = models.allocations.emplace_back();
    intensity.name = in.Text("name");
    intensity.kwh_per_gb = in.Number("kwh_per_gb", 0, 1000);
    intensity.year = in.Year();
    intensity.halving_years = in.OptionalNumber("halving_years", 0.1, 100);
    intensity.source = in.Text("source");
  }));
  const Json power = json.value("power_model", Json());
  Members in(power, "network models: power_model");
  models.power_model.base_watts = in.Number("base_watts", 0, 1000);
  models.power_model.watts_per_mbps = in.Number("watts_per_mbps", 0, 100);
  models.power_model.year = in.Year();
  models.power_model.source = in.Text("source");
  FEDWATT_RETURN_IF_ERROR(in.status());
  return models;
}

const NetworkModels& BuiltInNetworkModels() {
  static const NetworkModels& models = *[] {
    absl::StatusOr<NetworkModels> parsed = ParseNetworkModels(internal::kNetworkData);
    FEDWATT_CHECK(parsed.ok());  // NetworkModelsTest.TheBuiltInOnesAreRead
    return new NetworkModels(*std::move(parsed));
  }();
  return models;
}

}  // namespace fedwatt
