// The RAPL counters behind performance events, of which the test opens files instead.
#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kJoule = uint64_t{1} << 32;  // counts

class RaplPerfTest : public MeterFixture {
 protected:
  RaplPerfTest() : MeterFixture("rapl_perf") {
    root_.Write(pmu_ + "/type", "25\n");
    root_.Write(pmu_ + "/cpumask", "0,8\n");
    root_.Write(pmu_ + "/format/event", "config:0-7\n");
    Event("energy-pkg", "event=0x02");
    root_.Write("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n");
    root_.Write("sys/devices/system/cpu/cpu8/topology/physical_package_id", "1\n");
    options_.open_perf_event = [this](uint32_t type, uint64_t config, int cpu) -> absl::StatusOr<int> {
      EXPECT_EQ(type, 25u);
      const std::string name = absl::StrCat(config, "-", cpu);
      opened_.push_back(name);
      if (error_ != 0) return ErrnoStatus(error_, "perf_event_open");
      Count(name, shown_[name]);
      return ::open(root_.At("perf/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    };
  }
  void Event(const std::string& name, const std::string& text, const std::string& scale = "2.3283064365386962890625e-10") {
    root_.Write(pmu_ + "/events/" + name, text + "\n");
    root_.Write(pmu_ + "/events/" + name + ".scale", scale + "\n");
    root_.Write(pmu_ + "/events/" + name + ".unit", "Joules\n");
  }
  void Count(const std::string& event, uint64_t count) {
    shown_[event] = count;
    std::string bytes(sizeof count, '\0');
    std::memcpy(bytes.data(), &count, sizeof count);
    root_.Write("perf/" + event, bytes);
  }
  void Wait() override {
    for (const auto& [event, count] : std::map<std::string, uint64_t>(shown_)) Count(event, count + step_);
  }

  const std::string pmu_ = "sys/bus/event_source/devices/power";
  std::map<std::string, uint64_t> shown_;
  std::vector<std::string> opened_;
  uint64_t step_ = kJoule >> 10;  // while the meter waits
  int error_ = 0;
};

TEST_F(RaplPerfTest, CountsEachPackageOnceByTheScaleTheKernelStates) {
  auto meter = Started();
  EXPECT_THAT(opened_, ElementsAre("2-0", "2-8"));
  Count("2-0", 10 * kJoule);
  Count("2-8", 20 * kJoule);
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(30));
  EXPECT_EQ(reading.low, Joules(28));
  EXPECT_EQ(reading.high, Joules(32));
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
  EXPECT_EQ(reading.domain, "package-0+package-1");
}

TEST_F(RaplPerfTest, AddsDramAndNothingElse) {
  Event("energy-ram", "event=0x03");
  Event("energy-cores", "event=0x01");
  Event("energy-gpu", "event=0x04");
  Event("energy-psys", "event=0x05");
  root_.Write(pmu_ + "/cpumask", "0\n");
  auto meter = Started();
  EXPECT_THAT(opened_, ElementsAre("2-0", "3-0"));
  EXPECT_EQ(found_["package-0-dram"], "");
  EXPECT_EQ(found_["energy-cores"], "lies inside its package");
  EXPECT_THAT(found_["energy-psys"], HasSubstr("covers the packages again"));
  Count("2-0", 2 * kJoule);
  Count("3-0", kJoule);
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(3));
  EXPECT_EQ(reading.domain, "package-0+package-0-dram");
}

TEST_F(RaplPerfTest, TakesTheScaleOfEachEvent) {
  Event("energy-pkg", "event=0x02", "1.52587890625e-05");  // 2^-16 J, as Haswell servers count their memory
  root_.Write(pmu_ + "/cpumask", "0\n");
  step_ = 8;
  auto meter = Started();
  Count("2-0", 3 << 16);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(3));
}

TEST_F(RaplPerfTest, TakesThePlatformWhereItIsAlone) {
  root_.Remove(pmu_ + "/events");
  Event("energy-psys", "event=0x05");
  auto meter = Started();
  EXPECT_THAT(opened_, ElementsAre("5-0"));
  EXPECT_EQ(meter->tier(), EnergyTier::kDevice);
}

TEST_F(RaplPerfTest, NamesAPermissionProblemAndItsRemedy) {
  for (int error : {EACCES, EPERM}) {
    error_ = error;
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("; remedy: sudo sysctl kernel.perf_event_paranoid=0")));
    EXPECT_THAT(found_["package-0"], HasSubstr("remedy"));
  }
  error_ = EMFILE;
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("energy-pkg on CPU 0")));
}

// Whatever this machine allows: the system call and its refusals are real.
TEST_F(RaplPerfTest, OpensRealEventsOrSaysWhyNot) {
  absl::StatusOr<int> none = OpenPerfEvent(0x7fffffff, 0, 0);
  ASSERT_FALSE(none.ok());
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("perf_event_open"));
}

TEST_F(RaplPerfTest, RefusesWhereThereIsNoSuchPmu) {
  root_.Remove(pmu_ + "/type");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no performance events of power")));
  root_.Write(pmu_ + "/type", "25\n");
  root_.Remove(pmu_ + "/events");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no event energy-pkg")));
}

TEST_F(RaplPerfTest, RefusesDescriptionsItDoesNotUnderstand) {
  for (const char* mask : {"", "a", "0-", "5-2", "-1", "0-99999999"}) {
    root_.Write(pmu_ + "/cpumask", mask);
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cpumask"))) << mask;
  }
  root_.Write(pmu_ + "/cpumask", "0\n");
  for (const char* scale : {"", "-1", "0", "nan", "inf", "1e9", "x"}) {
    Event("energy-pkg", "event=0x02", scale);
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("energy-pkg"))) << scale;
  }
  for (const char* event : {"event", "event=", "event=zz", "other=0x2"}) {
    Event("energy-pkg", event);
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("energy-pkg"))) << event;
  }
  Event("energy-pkg", "event=0x02");
  root_.Write(pmu_ + "/events/energy-pkg.unit", "Volts\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("expected Joules, got 'Volts'")));
}

TEST_F(RaplPerfTest, CallsAShortReadMissing) {
  auto meter = Started();
  root_.Write("perf/2-0", "abc");
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("2-0", kJoule);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("2-0", 3 * kJoule);
  Count("2-8", 3 * kJoule);
  EXPECT_FALSE(ReadAfter(*meter).missing());
}

}  // namespace
}  // namespace fedwatt
