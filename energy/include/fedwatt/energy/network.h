// What moving bytes costs where no meter looks: the device's radio, and the network behind it. Models, never part of a metered sum.
#ifndef FEDWATT_ENERGY_NETWORK_H_
#define FEDWATT_ENERGY_NETWORK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace fedwatt {

// Joules that follow from a model. Another type than Energy, so that no sum of metered joules takes them.
struct ModelledJoules {
  double low = 0, value = 0, high = 0;
};

// A device's radio as a state machine: idle, promotion, active, tail. It spends only in the last three; a transfer that starts within the tail cuts it and needs no
// promotion. Huang et al., MobiSys 2012.
struct RadioModel {
  std::string link;  // "wifi", "lte"
  double uplink_mbps = 0, downlink_mbps = 0;  // Mbit/s; a transfer lasts as long as these say
  double active_watts = 0, uplink_watts_per_mbps = 0, downlink_watts_per_mbps = 0;
  absl::Duration promotion, tail;
  double promotion_watts = 0, tail_watts = 0;
  double factor = 1;  // the truth is taken to lie within it, either way
  int year = 0;
  std::string source;
};

// Bytes of one go, first down and then up.
struct RadioBurst {
  absl::Duration start;  // since some instant; a burst waits for the one before
  int64_t downlink_bytes = 0, uplink_bytes = 0;
};

// Above the radio's idle power, from the first burst to the end of the last one's tail. `bursts` in order of time. `keep_alive` > 0: pings so long after the last
// activity, and again, between bursts; each arms the tail anew. O(bursts).
ModelledJoules RadioEnergy(const RadioModel& model, absl::Span<const RadioBurst> bursts, absl::Duration keep_alive = absl::InfiniteDuration());

// A network's energy by its bytes.
struct AllocatedIntensity {
  std::string name;
  double kwh_per_gb = 0;                // of `year`; GB of 10^9 bytes
  int year = 0;
  std::optional<double> halving_years;  // since then, where the source says so
  std::string source;
};
// `bytes` at the intensity of `year`, which may be fractional and before the source's: then the source's. Shares of what runs anyway, which fewer bytes do not switch
// off; published ones differ by orders of magnitude, so that no interval is stated.
double AllocatedJoules(const AllocatedIntensity& intensity, double bytes, double year);

// A network's power while it serves a transfer: base + slope * rate.
struct NetworkPowerModel {
  double base_watts = 0, watts_per_mbps = 0;
  int year = 0;
  std::string source;
};
// Of `bytes` at `mbps` > 0. `low` is without the base power, which is drawn whether or not anybody transfers; the others are with it.
ModelledJoules PowerModelEnergy(const NetworkPowerModel& model, double bytes, double mbps);

struct NetworkModels {
  std::vector<RadioModel> radios;
  std::vector<AllocatedIntensity> allocations;
  NetworkPowerModel power_model;
};
// `text`: JSON as energy/data/network.json. Errors: INVALID_ARGUMENT  what is wrong, and where
absl::StatusOr<NetworkModels> ParseNetworkModels(std::string_view text);
// Those of energy/data/network.json, as it was when this was built.
const NetworkModels& BuiltInNetworkModels();

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_NETWORK_H_
