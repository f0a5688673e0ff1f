#include "fedwatt/energy/domain.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace fedwatt {
namespace {

bool ParseIndex(absl::string_view text, int& index) { return absl::SimpleAtoi(text, &index) && index >= 0; }

}  // namespace

EnergyDomain ParseDomain(std::string_view name, const EnergyDomain* parent) {
  EnergyDomain domain;
  domain.name = std::string(name);
  const std::vector<std::string> parts = absl::StrSplit(domain.name, '-');
  int package = -1, die = -1;
  if (parts[0] == "package" && (parts.size() == 2 || (parts.size() == 4 && parts[2] == "die")) && ParseIndex(parts[1], package) &&
      (parts.size() == 2 || ParseIndex(parts[3], die))) {
    domain.kind = DomainKind::kPackage;
    domain.package = package;
    domain.die = die;
    return domain;
  }
  if (name == "psys") domain.kind = DomainKind::kPlatform;
  if (name == "dram") domain.kind = DomainKind::kDram;
  if (name == "core") domain.kind = DomainKind::kCore;
  if (name == "uncore") domain.kind = DomainKind::kUncore;
  if (parent != nullptr) {
    domain.package = parent->package;
    domain.die = parent->die;
  }
  return domain;
}

std::string DomainLabel(const EnergyDomain& domain) {
  if (domain.kind == DomainKind::kPackage || domain.package < 0) return domain.name;
  return absl::StrCat("package-", domain.package, domain.die >= 0 ? absl::StrCat("-die-", domain.die) : "", "-", domain.name);
}

DomainChoice SelectDomains(std::vector<DomainCandidate> found, const std::vector<std::string>& controls) {
  const auto has = [&found](const std::string& control, DomainKind kind) {
    return std::any_of(found.begin(), found.end(),
                       [&](const DomainCandidate& c) { return c.control == control && c.domain.kind == kind; });
  };
  std::string door;
  bool packages = false;
  for (const std::string& control : controls) {
    if (!has(control, DomainKind::kPackage)) continue;
    door = control;
    packages = true;
    break;
  }
  for (const std::string& control : controls) {
    if (door.empty() && has(control, DomainKind::kPlatform)) door = control;
  }

  DomainChoice choice;
  std::set<std::string> taken;
  for (DomainCandidate& candidate : found) {
    std::string reason;
    const DomainKind kind = candidate.domain.kind;
    const std::string label = DomainLabel(candidate.domain);
    if (kind == DomainKind::kUnknown) {
      reason = "no name this version knows";
    } else if (kind == DomainKind::kCore || kind == DomainKind::kUncore) {
      reason = "lies inside its package";
    } else if (candidate.control != door) {
      reason = absl::StrCat("a second door to the counters of ", door);
    } else if (kind == DomainKind::kPlatform && packages) {
      reason = "covers the packages again, under a boundary and calibration of the board's maker";
    } else if (kind == DomainKind::kDram && !packages) {
      reason = "lies inside the platform counter";
    } else if (!taken.insert(label).second) {
      reason = absl::StrCat(label, " was found before");
    } else if (!candidate.readable.ok() && kind == DomainKind::kDram) {
      reason = std::string(candidate.readable.message());
    }
    if (!reason.empty()) {
      choice.refused.push_back({std::move(candidate), std::move(reason)});
      continue;
    }
    if (choice.status.ok()) choice.status = candidate.readable;
    choice.chosen.push_back(std::move(candidate));
  }
  std::stable_sort(choice.chosen.begin(), choice.chosen.end(), [](const DomainCandidate& a, const DomainCandidate& b) {
    return std::tie(a.domain.kind, a.domain.package, a.domain.die) < std::tie(b.domain.kind, b.domain.package, b.domain.die);
  });
  return choice;
}

}  // namespace fedwatt
