#include "fedwatt/rpc/audit_log.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

class AuditLogTest : public ::testing::Test {
 protected:
  AuditLogTest() : path_(::testing::TempDir() + "fedwatt-audit-" + std::to_string(::getpid())), clock_(absl::FromUnixSeconds(1'800'000'000)) { Open(); }
  ~AuditLogTest() override { std::filesystem::remove(path_); }

  void Open(int64_t full_bytes = AuditLog::kFullBytes) {
    log_.reset();
    log_ = *AuditLog::Open(path_, &clock_, nullptr, full_bytes);
  }
  void Refuse(const std::string& reason, const std::string& address) { log_->Refusal({"refused", reason, "CheckIn", "anonymous", "", address, "why"}); }
  // The whole file, verified.
  std::vector<nlohmann::json> Lines() {
    std::vector<nlohmann::json> lines;
    absl::StatusOr<std::vector<ChainEntry>> entries = ReadHashChain(ReadFile(path_).value_or(""), path_);
    EXPECT_TRUE(entries.ok()) << entries.status();
    for (const ChainEntry& entry : entries.value_or(std::vector<ChainEntry>())) lines.push_back(nlohmann::json::parse(entry.payload));
    return lines;
  }
  // Every refusal that the file tells of.
  int64_t Refusals() {
    int64_t refusals = 0;
    for (const nlohmann::json& line : Lines()) {
      if (line["event"] == "refused") refusals += line.value("repeats", int64_t{1});
    }
    return refusals;
  }

  const std::string path_;
  VirtualClock clock_;
  std::unique_ptr<AuditLog> log_;
};

TEST_F(AuditLogTest, OneLineForEachRefusalAndAction) {
  Refuse("no_certificate", "ipv4:192.0.2.1");
  Refuse("expired", "ipv4:192.0.2.1");
  log_->Action({.event = "revoked", .role = "operator", .name = "operator-1", .detail = "device-1\nforged line"});
  const std::vector<nlohmann::json> lines = Lines();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["reason"], "no_certificate");
  EXPECT_EQ(lines[0]["method"], "CheckIn");
  EXPECT_EQ(lines[0]["address"], "ipv4:192.0.2.1");
  EXPECT_EQ(lines[0]["time"], "2027-01-15T08:00:00.000Z");
  EXPECT_EQ(lines[1]["reason"], "expired");
  EXPECT_EQ(lines[2]["detail"], "device-1 forged line");
}

TEST_F(AuditLogTest, RepeatsWithinAMinuteAreCountedAndToldOnce) {
  for (int i = 0; i < 1000; ++i) {
    Refuse("revoked", "a");
    clock_.Advance(absl::Milliseconds(10));
  }
  EXPECT_EQ(Lines().size(), 1u);
  clock_.Advance(absl::Minutes(1));
  log_->Tick();
  const std::vector<nlohmann::json> lines = Lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1]["repeats"], 999);
  EXPECT_EQ(lines[1]["since"], "2027-01-15T08:00:00.010Z");
  EXPECT_EQ(lines[1]["until"], "2027-01-15T08:00:09.990Z");
  // A later one is listed again.
  Refuse("revoked", "a");
  EXPECT_EQ(Lines().size(), 3u);
  EXPECT_EQ(Refusals(), 1001);
}

TEST_F(AuditLogTest, AFloodFromManyAddressesStaysSmallAndNoneIsForgotten) {
  // A day of a refusal each second, each from another address.
  for (int i = 0; i < 86400; ++i) {
    Refuse("no_certificate", absl::StrCat("ipv4:10.0.", i / 256, ".", i % 256));
    clock_.Advance(absl::Seconds(1));
    log_->Tick();
  }
  log_->Action({.event = "stop_asked"});
  const int64_t lines = static_cast<int64_t>(Lines().size());
  EXPECT_LE(lines, 256 + 24 * 240 + 24 * 60 + 2);
  EXPECT_GE(lines, 24 * 240);
  log_.reset();  // what is still being counted is written at the end
  EXPECT_EQ(Refusals(), 86400);
  EXPECT_LT(std::filesystem::file_size(path_), 4u << 20);
}

TEST_F(AuditLogTest, AFullFileTakesActionsAndOneCountAnHour) {
  Open(/*full_bytes=*/1000);
  for (int i = 0; i < 7200; ++i) {
    Refuse("no_certificate", absl::StrCat("a", i));
    clock_.Advance(absl::Seconds(1));
    log_->Tick();
  }
  log_->Action({.event = "revoked"});
  EXPECT_LE(Lines().size(), 16u);
  EXPECT_EQ(Lines().back()["event"], "revoked");
  log_.reset();
  EXPECT_EQ(Refusals(), 7200);
}

TEST_F(AuditLogTest, AClockThatIsSetBackHoldsNothingBack) {
  Refuse("a", "x");
  Refuse("a", "x");
  clock_ = VirtualClock(absl::FromUnixSeconds(1'700'000'000));
  log_->Tick();
  EXPECT_EQ(Refusals(), 2);
}

TEST_F(AuditLogTest, StrangersTextIsCutAndHarmless) {
  log_->Refusal({"refused", "unknown_authority", "CheckIn", "anonymous", "", std::string(100000, 'a'), std::string("\x1b[2J\xff\"}\n") + std::string(100000, 'b')});
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_LE(std::filesystem::file_size(path_), 2000u);
}

}  // namespace
}  // namespace fedwatt
