#include "fedwatt/energy/domain.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace fedwatt {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<std::string> kControls = {"intel-rapl", "intel-rapl-mmio"};

DomainCandidate Zone(const std::string& name, const std::string& control = "intel-rapl", const char* parent = nullptr) {
  DomainCandidate candidate;
  const EnergyDomain above = ParseDomain(parent == nullptr ? "" : parent, nullptr);
  candidate.domain = ParseDomain(name, parent == nullptr ? nullptr : &above);
  candidate.control = control;
  return candidate;
}

std::vector<std::string> Chosen(const DomainChoice& choice) {
  std::vector<std::string> labels;
  for (const DomainCandidate& candidate : choice.chosen) labels.push_back(candidate.control + " " + DomainLabel(candidate.domain));
  return labels;
}

std::string Reason(const DomainChoice& choice, const std::string& label, const std::string& control = "intel-rapl") {
  for (const DomainChoice::Refused& refused : choice.refused) {
    if (DomainLabel(refused.candidate.domain) == label && refused.candidate.control == control) return refused.reason;
  }
  return "not refused";
}

TEST(ParseDomainTest, ReadsNamesNotIndices) {
  EnergyDomain domain = ParseDomain("package-2", nullptr);
  EXPECT_EQ(domain.kind, DomainKind::kPackage);
  EXPECT_EQ(domain.package, 2);
  EXPECT_EQ(domain.die, -1);
  domain = ParseDomain("package-1-die-3", nullptr);
  EXPECT_EQ(domain.kind, DomainKind::kPackage);
  EXPECT_EQ(domain.package, 1);
  EXPECT_EQ(domain.die, 3);
  EXPECT_EQ(DomainLabel(domain), "package-1-die-3");
  EXPECT_EQ(DomainLabel(ParseDomain("dram", &domain)), "package-1-die-3-dram");
  EXPECT_EQ(ParseDomain("psys", nullptr).kind, DomainKind::kPlatform);
  EXPECT_EQ(ParseDomain("core", &domain).kind, DomainKind::kCore);
  EXPECT_EQ(ParseDomain("uncore", &domain).kind, DomainKind::kUncore);
  for (const char* odd : {"", "package", "package-", "package-x", "package--1", "package-0-die", "package-0-die-x", "package-0-tile-1",
                          "package-0-die-1-2", "Package-0", "dram-0", "gpu", "package-99999999999"}) {
    EXPECT_EQ(ParseDomain(odd, nullptr).kind, DomainKind::kUnknown) << odd;
  }
}

TEST(SelectDomainsTest, AddsPackagesAndTheirDramAndExplainsTheRest) {
  const DomainChoice choice =
      SelectDomains({Zone("psys"), Zone("package-1"), Zone("dram", "intel-rapl", "package-1"), Zone("core", "intel-rapl", "package-1"),
                     Zone("package-0"), Zone("dram", "intel-rapl", "package-0"), Zone("uncore", "intel-rapl", "package-0"),
                     Zone("package-0", "intel-rapl-mmio"), Zone("dram", "intel-rapl-mmio", "package-0"), Zone("novel")},
                    kControls);
  EXPECT_TRUE(choice.status.ok());
  EXPECT_THAT(Chosen(choice), ElementsAre("intel-rapl package-0", "intel-rapl package-1", "intel-rapl package-0-dram", "intel-rapl package-1-dram"));
  EXPECT_EQ(choice.refused.size(), 6u);
  EXPECT_THAT(Reason(choice, "psys"), HasSubstr("covers the packages again"));
  EXPECT_THAT(Reason(choice, "package-1-core"), HasSubstr("inside its package"));
  EXPECT_THAT(Reason(choice, "package-0-uncore"), HasSubstr("inside its package"));
  EXPECT_THAT(Reason(choice, "package-0", "intel-rapl-mmio"), HasSubstr("second door"));
  EXPECT_THAT(Reason(choice, "package-0-dram", "intel-rapl-mmio"), HasSubstr("second door"));
  EXPECT_THAT(Reason(choice, "novel"), HasSubstr("no name"));
}

TEST(SelectDomainsTest, TakesThePlatformOnlyWhereThereIsNoPackage) {
  const DomainChoice choice = SelectDomains({Zone("psys"), Zone("dram")}, kControls);
  EXPECT_THAT(Chosen(choice), ElementsAre("intel-rapl psys"));
  EXPECT_THAT(Reason(choice, "dram"), HasSubstr("platform"));
  // A package behind the second door beats a platform counter behind the first.
  EXPECT_THAT(Chosen(SelectDomains({Zone("psys"), Zone("package-0", "intel-rapl-mmio")}, kControls)), ElementsAre("intel-rapl-mmio package-0"));
}

TEST(SelectDomainsTest, UsesTheSecondDoorWhereItIsTheOnlyOne) {
  const DomainChoice choice = SelectDomains({Zone("package-0", "intel-rapl-mmio"), Zone("dram", "intel-rapl-mmio", "package-0")}, kControls);
  EXPECT_THAT(Chosen(choice), ElementsAre("intel-rapl-mmio package-0", "intel-rapl-mmio package-0-dram"));
}

TEST(SelectDomainsTest, CountsOneIdentityOnce) {
  const DomainChoice choice = SelectDomains({Zone("package-0-die-0"), Zone("package-0-die-1"), Zone("package-0-die-0")}, kControls);
  EXPECT_THAT(Chosen(choice), ElementsAre("intel-rapl package-0-die-0", "intel-rapl package-0-die-1"));
  EXPECT_THAT(Reason(choice, "package-0-die-0"), HasSubstr("found before"));
}

TEST(SelectDomainsTest, FailsOnAnUnreadablePackageButLeavesOutUnreadableDram) {
  DomainCandidate package = Zone("package-0"), dram = Zone("dram", "intel-rapl", "package-0");
  dram.readable = absl::PermissionDeniedError("no dram for you");
  DomainChoice choice = SelectDomains({package, dram}, kControls);
  EXPECT_TRUE(choice.status.ok());
  EXPECT_THAT(Chosen(choice), ElementsAre("intel-rapl package-0"));
  EXPECT_THAT(Reason(choice, "package-0-dram"), HasSubstr("no dram for you"));
  package.readable = absl::UnavailableError("broken");
  choice = SelectDomains({Zone("package-1"), package}, kControls);
  EXPECT_EQ(choice.status, package.readable);
}

TEST(SelectDomainsTest, ChoosesNothingFromNothing) {
  EXPECT_THAT(SelectDomains({}, kControls).chosen, IsEmpty());
  EXPECT_THAT(SelectDomains({Zone("core"), Zone("what")}, kControls).chosen, IsEmpty());
}

}  // namespace
}  // namespace fedwatt
