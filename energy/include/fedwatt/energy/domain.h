// Which of a machine's energy counters to add, so that no joule is counted twice.
#ifndef FEDWATT_ENERGY_DOMAIN_H_
#define FEDWATT_ENERGY_DOMAIN_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace fedwatt {

enum class DomainKind : uint8_t { kPackage, kDram, kPlatform, kCore, kUncore, kUnknown };

// What one counter covers. Names identify it, never the number of its folder, which the kernel deals out anew at each boot.
struct EnergyDomain {
  DomainKind kind = DomainKind::kUnknown;
  int package = -1;  // socket; -1 when the counter does not say
  int die = -1;      // -1 for a whole package
  std::string name;  // as the kernel calls it: "package-0-die-1", "dram", "psys"
};

// Reads the kernel's name of a zone: "package-N", "package-N-die-D", "core", "uncore", "dram", "psys". A part of a package
// gets package and die of `parent`, null for a zone at the top.
EnergyDomain ParseDomain(std::string_view name, const EnergyDomain* parent);

// "package-0", "package-1-die-0-dram", "psys": unique within one control.
std::string DomainLabel(const EnergyDomain& domain);

// One counter found, through one door of the kernel to it.
struct DomainCandidate {
  EnergyDomain domain;
  std::string control;  // "intel-rapl", "intel-rapl-mmio"
  std::string folder;   // where it is now
  absl::Status readable;
};

struct DomainChoice {
  std::vector<DomainCandidate> chosen;
  struct Refused {
    DomainCandidate candidate;
    std::string reason;
  };
  std::vector<Refused> refused;
  // Not OK when a counter that belongs to the sum cannot be read: a sum without it would not be what it says.
  absl::Status status;
};

// Chooses packages (or their dies) and their DRAM, or else the platform counter alone: it covers the packages under another
// boundary and another calibration, so never both. `controls` are doors to the same counters, the preferred one first: only the first that
// has a package or platform counter is used. Cores and uncore lie inside their package. Of two counters with one identity the first counts.
// DRAM that cannot be read is refused alone, for it is a boundary of its own. Every candidate ends up in exactly one of the lists.
DomainChoice SelectDomains(std::vector<DomainCandidate> found, const std::vector<std::string>& controls);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_DOMAIN_H_
