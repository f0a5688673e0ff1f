#include "tests/energy/meter_fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt::testing {
namespace {

constexpr double kUnit = 1e6 / 16384;         // microjoules
constexpr double kTurn = 4294967296 * kUnit;  // until the counter wraps
constexpr double kRefresh = 1e-3;             // seconds between two numbers of a counter
constexpr int64_t kWindowsPerMachine = 500;

// One piece of hardware with a counter, shown by one or more zones.
struct Part {
  std::vector<std::string> zones;  // folders' names
  bool counted = true;             // belongs to the sum that the meter should state
  double most_watts = 400;
  double watts = 1;
  double spent_uj = 0;    // truth since the machine was made
  double offset_uj = 0;   // what the counter shows beyond that
  double ticked_at = 0;   // seconds: when its number was made
  double ticked_uj = 0;   // spent_uj then
  std::optional<double> frozen_uj;  // ticked_uj when it stopped
};

class Machine {
 public:
  Machine(const std::string& root, std::mt19937_64& random) : powercap_(root + "/sys/class/powercap/"), random_(random) {
    std::filesystem::remove_all(powercap_);
    std::filesystem::create_directories(powercap_);
    switch (Draw(9)) {
      case 0: Add({{"intel-rapl:0", "package-0"}}); break;
      case 1:
        Add({{"intel-rapl:0", "package-0"}});
        Add({{"intel-rapl:1", "package-1"}});
        break;
      case 2:
        Add({{"intel-rapl:0", "package-0-die-0"}});
        Add({{"intel-rapl:1", "package-0-die-1"}});
        break;
      case 3:  // a platform counter first, in the middle, last
      case 4: {
        const uint64_t psys = Draw(3);
        Add({{absl::StrCat("intel-rapl:", psys), "psys"}}, false);
        Add({{absl::StrCat("intel-rapl:", psys == 0 ? 1 : 0), "package-0"}});
        Add({{absl::StrCat("intel-rapl:", psys == 2 ? 1 : 2), "package-1"}});
        break;
      }
      case 5:
        Add({{"intel-rapl:0", "package-0"}, {"intel-rapl-mmio:0", "package-0"}});
        Add({{"intel-rapl:0:0", "core"}}, false);
        Add({{"intel-rapl:0:1", "dram"}}, true, 30);
        break;
      case 6: Add({{"intel-rapl-mmio:0", "package-0"}}); break;
      case 7: Add({{"intel-rapl:0", "package-0-die-0"}, {"intel-rapl:1", "package-0-die-1"}}); break;  // mirrors
      default:
        Add({{"intel-rapl:0", "package-0"}});
        Add({{"intel-rapl:0:0", "dram"}}, true, 30);
        Add({{"intel-rapl:1", "package-1"}});
        Add({{"intel-rapl:1:0", "dram"}}, true, 30);
        Add({{"intel-rapl:1:1", "uncore"}}, false);
        break;
    }
    for (Part& part : parts_) {
      part.offset_uj = std::floor(Uniform() * 4294967296) * kUnit;
      part.ticked_at = -kRefresh * Uniform();
    }
    NewLoad();
    Show();
  }

  ~Machine() {
    for (const auto& [zone, file] : files_) ::close(file.descriptor);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  double CountedMicrojoules() const {
    double sum = 0;
    for (const Part& part : parts_) sum += part.counted ? part.spent_uj : 0;
    return sum;
  }
  void NewLoad() {
    for (Part& part : parts_) part.watts = part.most_watts * std::pow(10.0, -2 * Uniform());
  }
  void Spend(double seconds) {
    now_ += seconds;
    for (Part& part : parts_) {
      part.spent_uj += part.watts * 1e6 * seconds;
      if (now_ - part.ticked_at < kRefresh) continue;
      part.ticked_at += std::floor((now_ - part.ticked_at) / kRefresh) * kRefresh;
      part.ticked_uj = part.spent_uj - part.watts * 1e6 * std::min(seconds, now_ - part.ticked_at);
    }
    Show();
  }
  void Show() {
    for (const Part& part : parts_) {
      const double units = std::floor(std::max(0.0, part.frozen_uj.value_or(part.ticked_uj) + part.offset_uj) / kUnit);
      const auto shown = static_cast<int64_t>(std::fmod(units, 4294967296) * kUnit);
      for (const std::string& zone : part.zones) Write(zone, absl::StrCat(shown, "\n"));
    }
  }
  // Every counter starts again at zero, now.
  void Restart() {
    for (Part& part : parts_) {
      part.offset_uj = -part.spent_uj;
      part.ticked_uj = part.spent_uj;
      part.frozen_uj.reset();
    }
  }
  // One counter jumps ahead by more than `least_uj`; false where a turn leaves no room for that.
  bool Jump(double least_uj) {
    if (least_uj > kTurn / 2) return false;
    parts_[CountedPart()].offset_uj += least_uj + Uniform() * (kTurn / 2 - least_uj);
    return true;
  }
  // One counter stops, or all of them.
  void Freeze() {
    const size_t only = CountedPart();
    const bool all = Draw(2) == 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (all || i == only) parts_[i].frozen_uj = parts_[i].frozen_uj.value_or(parts_[i].ticked_uj);
    }
  }
  // They go on, with what they held back or without it.
  void Thaw() {
    const bool lose = Draw(2) == 0;
    for (Part& part : parts_) {
      if (lose && part.frozen_uj) part.offset_uj -= part.ticked_uj - *part.frozen_uj;
      part.frozen_uj.reset();
    }
  }
  bool frozen() const {
    return std::any_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.frozen_uj.has_value(); });
  }
  void Break(const std::string& text) { Write(parts_[CountedPart()].zones[0], text); }
  void Hide() { std::filesystem::rename(powercap_ + parts_[hidden_ = CountedPart()].zones[0], powercap_ + "gone"); }
  void Unhide() { std::filesystem::rename(powercap_ + "gone", powercap_ + parts_[hidden_].zones[0]); }

  uint64_t Draw(uint64_t below) { return random_() % below; }
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

 private:
  void Add(const std::vector<std::pair<std::string, std::string>>& zones, bool counted = true, double most_watts = 400) {
    Part part;
    part.counted = counted;
    part.most_watts = most_watts;
    for (const auto& [zone, name] : zones) {
      std::filesystem::create_directory(powercap_ + zone);
      std::ofstream(powercap_ + zone + "/name") << name << "\n";
      std::ofstream(powercap_ + zone + "/max_energy_range_uj") << static_cast<int64_t>(4294967295 * kUnit) << "\n";
      part.zones.push_back(zone);
      // Kept open, for half of the time goes into these files; they move with their folder.
      files_[zone] = {::open((powercap_ + zone + "/energy_uj").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644), 0};
      FEDWATT_CHECK(files_[zone].descriptor >= 0);
    }
    parts_.push_back(std::move(part));
  }
  size_t CountedPart() {
    size_t part = Draw(parts_.size());
    while (!parts_[part].counted) part = (part + 1) % parts_.size();
    return part;
  }
  void Write(const std::string& zone, const std::string& text) {
    File& file = files_.at(zone);
    FEDWATT_CHECK(::pwrite(file.descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    if (text.size() != file.size) FEDWATT_CHECK(::ftruncate(file.descriptor, static_cast<off_t>(text.size())) == 0);
    file.size = text.size();
  }

  struct File {
    int descriptor;
    size_t size;
  };
  const std::string powercap_;
  std::mt19937_64& random_;
  std::vector<Part> parts_;
  std::map<std::string, File> files_;  // by zone
  double now_ = 0;
  size_t hidden_ = 0;
};

}  // namespace

FuzzResult FuzzRapl(const std::string& folder, uint64_t seed, int64_t windows) {
  std::mt19937_64 random(seed);
  FuzzResult result;
  while (result.windows < windows) {
    Machine machine(folder, random);
    VirtualClock clock;
    absl::Duration suspended;
    bool faulted = false;  // in this window so far
    const auto pass = [&](double seconds) {
      machine.Spend(seconds);
      clock.Advance(absl::Seconds(seconds));
    };
    // Counters stop and go on whenever they like, also while the meter waits for them to move.
    const auto freeze_or_thaw = [&](uint64_t one_in) {
      if (machine.Draw(machine.frozen() ? 3 : one_in) != 0) return;
      faulted = true;
      machine.frozen() ? machine.Thaw() : machine.Freeze();
    };
    MeterOptions options;
    options.root = folder;
    options.clock = &clock;
    options.suspended = [&suspended] { return suspended; };
    options.pause = [&](absl::Duration span) {
      pass(absl::ToDoubleSeconds(span) * (1 + machine.Uniform()));
      if (machine.Draw(20) == 0) freeze_or_thaw(1000);
    };
    const std::unique_ptr<Meter> meter = Meters().Find("rapl").value().create(options).value();
    const bool sampled = machine.Draw(2) == 0;
    FEDWATT_CHECK(meter->Start().ok());
    double truth_before = machine.CountedMicrojoules();
    bool tainted = machine.frozen();  // the reading at the window's start met a fault
    for (int64_t i = 0; i < kWindowsPerMachine && result.windows < windows; ++i, ++result.windows) {
      faulted = std::exchange(tainted, false) || machine.frozen();
      bool hidden = false;
      machine.NewLoad();
      // 2 ms to 5 s, and once in a thousand up to 20 minutes.
      const double seconds = machine.Draw(1000) == 0 ? 60 + 1140 * machine.Uniform() : 0.002 * std::pow(2500.0, machine.Uniform());
      const double before = seconds * machine.Uniform();  // where in the window the fault falls
      pass(before);
      freeze_or_thaw(400);
      if (sampled) meter->Sample();
      if (machine.Draw(50) == 0) {
        faulted = true;
        switch (machine.Draw(7)) {
          case 0: machine.Restart(); break;
          case 1: faulted = machine.Jump(1.1 * 1e9 * (seconds + 0.1)); break;
          case 2:
            suspended += absl::Hours(1);
            if (machine.Draw(2) == 0) machine.Restart();
            break;
          default: hidden = true; break;  // the last reading fails, below
        }
      }
      machine.Show();
      const double middle = (seconds - before) * machine.Uniform();
      pass(middle);
      freeze_or_thaw(400);
      pass(seconds - before - middle);
      if (machine.Draw(4) == 0) freeze_or_thaw(400);  // exactly between two windows
      const bool vanish = hidden && machine.Draw(2) == 0;
      if (vanish) machine.Hide();
      if (hidden && !vanish) {
        static constexpr const char* kBroken[] = {"", "\n", "12x\n", "-5\n", "garbage", "99999999999999999999999\n", "1e6\n"};
        machine.Break(kBroken[machine.Draw(7)]);
      }
      const bool before_reading = faulted;
      faulted = false;
      const EnergyReading reading = meter->Read();
      tainted = hidden || faulted;
      faulted = faulted || before_reading || machine.frozen();
      if (vanish) machine.Unhide();
      if (hidden) machine.Show();

      const double truth_now = machine.CountedMicrojoules();
      const double truth = truth_now - std::exchange(truth_before, truth_now);
      result.faulted += faulted;
      if (reading.missing()) {
        result.missing_healthy += !faulted;
        continue;
      }
      ++result.stated;
      const auto low = static_cast<double>(reading.low->microjoules()), high = static_cast<double>(reading.high->microjoules());
      result.negative += low < 0 || reading.energy->microjoules() < 0 || high < 0;
      result.wrapped += reading.energy->joules() - reading.low->joules() > 10;
      if (low > truth + 1) {
        ++result.phantom;
        result.phantom_joules += (low - truth) / 1e6;
      }
      const bool out = low > truth + 1 || high < truth - 1;
      result.outside += out;
      result.outside_healthy += out && !faulted;
    }
  }
  return result;
}

}  // namespace fedwatt::testing
