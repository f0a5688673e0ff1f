#include "tests/energy/meter_fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
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

constexpr int64_t kWindowsPerMachine = 500;

// What a kind of counter counts and how it shows it.
struct Kind {
  const char* meter;
  double unit_uj;         // of the counter
  double units_per_turn;  // until it wraps
  double refresh;         // seconds between two numbers
  double most_watts;      // that the meter believes, of one counter
  bool binary;            // 8 bytes in units; a decimal number of what `shown_uj` microjoules are
  double shown_uj;
};
constexpr double kNever = 0x1p62;
constexpr Kind kKinds[] = {
    {"rapl", 1e6 / 16384, 4294967296, 1e-3, 1000, false, 1},
    {"rapl_perf", 1e6 * 0x1p-32, kNever, 1e-3, 1000, true, 0},
    {"amd_energy", 1e6 / 65536, 0x1p46, 1e-3, 1000, false, 1},
    {"nvml", 1000, 0x1p40, 0.1, 800, false, 1000},
};

// One piece of hardware with a counter, shown by one or more doors.
struct Part {
  std::vector<std::string> doors;
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
  Machine(const Kind& kind, const std::string& root, std::mt19937_64& random) : kind_(kind), root_(root + "/"), random_(random) {
    for (const char* folder : {"sys", "nvml", "usr", "perf", "gone"}) std::filesystem::remove_all(root_ + folder);
    const std::string meter = kind.meter;
    if (meter == "rapl") AddPowercap();
    if (meter == "rapl_perf") AddPerf();
    if (meter == "amd_energy") AddHwmon();
    if (meter == "nvml") AddGpus();
    for (Part& part : parts_) {
      part.offset_uj = std::floor(Uniform() * 4294967296) * kind_.unit_uj;
      part.ticked_at = -kind_.refresh * Uniform();
    }
    NewLoad();
    Show();
  }

  ~Machine() {
    for (const auto& [door, file] : files_) ::close(file.descriptor);
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
      if (now_ - part.ticked_at < kind_.refresh) continue;
      part.ticked_at += std::floor((now_ - part.ticked_at) / kind_.refresh) * kind_.refresh;
      part.ticked_uj = part.spent_uj - part.watts * 1e6 * std::min(seconds, now_ - part.ticked_at);
    }
    Show();
  }
  void Show() {
    for (const Part& part : parts_) {
      const double units = std::floor(std::max(0.0, part.frozen_uj.value_or(part.ticked_uj) + part.offset_uj) / kind_.unit_uj);
      const double shown = std::fmod(units, kind_.units_per_turn);
      for (const std::string& door : part.doors) Write(door, Text(shown));
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
    const double most_uj = std::min(kind_.units_per_turn * kind_.unit_uj / 2, 1e13);
    if (least_uj > most_uj) return false;
    parts_[CountedPart()].offset_uj += least_uj + Uniform() * (most_uj - least_uj);
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
  void Break(const std::string& text) { Write(parts_[CountedPart()].doors[0], text); }
  // One counter says too small a number.
  void Lie() { Break(Text(static_cast<double>(Draw(1000)))); }
  void Hide() {
    hidden_ = root_ + parts_[CountedPart()].doors[0];
    std::filesystem::rename(hidden_, root_ + "gone");
  }
  void Unhide() { std::filesystem::rename(root_ + "gone", hidden_); }

  uint64_t Draw(uint64_t below) { return random_() % below; }
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

 private:
  void AddPowercap() {
    switch (Draw(9)) {
      case 0: AddZones({{"intel-rapl:0", "package-0"}}); break;
      case 1:
        AddZones({{"intel-rapl:0", "package-0"}});
        AddZones({{"intel-rapl:1", "package-1"}});
        break;
      case 2:
        AddZones({{"intel-rapl:0", "package-0-die-0"}});
        AddZones({{"intel-rapl:1", "package-0-die-1"}});
        break;
      case 3:  // a platform counter first, in the middle, last
      case 4: {
        const uint64_t psys = Draw(3);
        AddZones({{absl::StrCat("intel-rapl:", psys), "psys"}}, false);
        AddZones({{absl::StrCat("intel-rapl:", psys == 0 ? 1 : 0), "package-0"}});
        AddZones({{absl::StrCat("intel-rapl:", psys == 2 ? 1 : 2), "package-1"}});
        break;
      }
      case 5:
        AddZones({{"intel-rapl:0", "package-0"}, {"intel-rapl-mmio:0", "package-0"}});
        AddZones({{"intel-rapl:0:0", "core"}}, false);
        AddZones({{"intel-rapl:0:1", "dram"}}, true, 30);
        break;
      case 6: AddZones({{"intel-rapl-mmio:0", "package-0"}}); break;
      case 7: AddZones({{"intel-rapl:0", "package-0-die-0"}, {"intel-rapl:1", "package-0-die-1"}}); break;  // mirrors
      default:
        AddZones({{"intel-rapl:0", "package-0"}});
        AddZones({{"intel-rapl:0:0", "dram"}}, true, 30);
        AddZones({{"intel-rapl:1", "package-1"}});
        AddZones({{"intel-rapl:1:0", "dram"}}, true, 30);
        AddZones({{"intel-rapl:1:1", "uncore"}}, false);
        break;
    }
  }
  void AddZones(const std::vector<std::pair<std::string, std::string>>& zones, bool counted = true, double most_watts = 400) {
    std::vector<std::string> doors;
    for (const auto& [zone, name] : zones) {
      const std::string folder = "sys/class/powercap/" + zone;
      Fixed(folder + "/name", name);
      Fixed(folder + "/max_energy_range_uj", absl::StrCat(static_cast<int64_t>(4294967295 * kind_.unit_uj)));
      doors.push_back(folder + "/energy_uj");
    }
    AddPart(doors, counted, most_watts);
  }
  // The meter opens its events as root/perf/CONFIG-CPU.
  void AddPerf() {
    const std::string pmu = "sys/bus/event_source/devices/power";
    const uint64_t packages = 1 + Draw(2);
    Fixed(pmu + "/type", "25");
    Fixed(pmu + "/cpumask", packages == 1 ? "0" : "0,8");
    Fixed(pmu + "/format/event", "config:0-7");
    const std::pair<const char*, const char*> events[] = {{"energy-pkg", "event=0x02"}, {"energy-cores", "event=0x01"}, {"energy-ram", "event=0x03"}};
    const size_t count = 2 + Draw(2);
    for (size_t i = 0; i < count; ++i) {
      const std::string event = absl::StrCat(pmu, "/events/", events[i].first);
      Fixed(event, events[i].second);
      Fixed(event + ".scale", "2.3283064365386962890625e-10");
      Fixed(event + ".unit", "Joules");
    }
    for (uint64_t package = 0; package < packages; ++package) {
      Fixed(absl::StrCat("sys/devices/system/cpu/cpu", 8 * package, "/topology/physical_package_id"), absl::StrCat(package));
      AddPart({absl::StrCat("perf/2-", 8 * package)}, true, 400);
      if (count == 3) AddPart({absl::StrCat("perf/3-", 8 * package)}, true, 30);
    }
  }
  void AddHwmon() {
    const std::string chip = "sys/class/hwmon/hwmon3";
    Fixed(chip + "/name", "amd_energy");
    const uint64_t sockets = 1 + Draw(2);
    for (uint64_t i = 1; i <= 4 + sockets; ++i) {
      Fixed(absl::StrCat(chip, "/energy", i, "_label"), i <= 4 ? absl::StrCat("Ecore00", i - 1) : absl::StrCat("Esocket", i - 5));
      AddPart({absl::StrCat(chip, "/energy", i, "_input")}, i > 4, i > 4 ? 400 : 20);
    }
  }
  void AddGpus() {
    std::filesystem::create_directories(root_ + "usr/lib");
    std::filesystem::create_symlink(FEDWATT_FAKE_NVML_LIBRARY, root_ + "usr/lib/libnvidia-ml.so.1");
    ::setenv("FEDWATT_FAKE_NVML", (root_ + "nvml").c_str(), 1);
    const uint64_t gpus = 1 + Draw(3);
    for (uint64_t i = 0; i < gpus; ++i) {
      Fixed(absl::StrCat("nvml/", i, "/name"), "gpu");
      Fixed(absl::StrCat("nvml/", i, "/limit"), "400000");
      AddPart({absl::StrCat("nvml/", i, "/energy")}, true, 400);
    }
  }
  void Fixed(const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + file).parent_path());
    std::ofstream(root_ + file) << text << "\n";
  }
  void AddPart(const std::vector<std::string>& doors, bool counted, double most_watts) {
    Part part;
    part.doors = doors;
    part.counted = counted;
    part.most_watts = most_watts;
    for (const std::string& door : doors) {
      std::filesystem::create_directories(std::filesystem::path(root_ + door).parent_path());
      // Kept open, for half of the time goes into these files; they move with their names.
      files_[door] = {::open((root_ + door).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644), 0};
      FEDWATT_CHECK(files_[door].descriptor >= 0);
    }
    parts_.push_back(std::move(part));
  }
  std::string Text(double units) const {
    if (!kind_.binary) return absl::StrCat(static_cast<int64_t>(units * kind_.unit_uj / kind_.shown_uj), "\n");
    const auto count = static_cast<uint64_t>(units);
    std::string bytes(sizeof count, '\0');
    std::memcpy(bytes.data(), &count, sizeof count);
    return bytes;
  }
  size_t CountedPart() {
    size_t part = Draw(parts_.size());
    while (!parts_[part].counted) part = (part + 1) % parts_.size();
    return part;
  }
  void Write(const std::string& door, const std::string& text) {
    File& file = files_.at(door);
    FEDWATT_CHECK(::pwrite(file.descriptor, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    if (text.size() != file.size) FEDWATT_CHECK(::ftruncate(file.descriptor, static_cast<off_t>(text.size())) == 0);
    file.size = text.size();
  }

  struct File {
    int descriptor;
    size_t size;
  };
  const Kind& kind_;
  const std::string root_;
  std::mt19937_64& random_;
  std::vector<Part> parts_;
  std::map<std::string, File> files_;  // by door
  double now_ = 0;
  std::string hidden_;
};

}  // namespace

std::vector<std::string> FuzzedMeters() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.push_back(kind.meter);
  return names;
}

FuzzResult FuzzCounters(const std::string& meter_name, const std::string& folder, uint64_t seed, int64_t windows) {
  std::mt19937_64 random(seed);
  const Kind& kind = *std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.meter == meter_name; });
  FuzzResult result;
  while (result.windows < windows) {
    Machine machine(kind, folder, random);
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
    options.open_perf_event = [&folder](uint32_t, uint64_t config, int cpu) -> absl::StatusOr<int> {
      return ::open(absl::StrCat(folder, "/perf/", config, "-", cpu).c_str(), O_RDONLY | O_CLOEXEC);
    };
    const std::unique_ptr<Meter> meter = Meters().Find(meter_name).value().create(options).value();
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
          case 1: faulted = machine.Jump(1.1e6 * kind.most_watts * (seconds + kind.refresh + 0.1)); break;
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
        if (const uint64_t kind_of_break = machine.Draw(10); kind_of_break < 7) {
          machine.Break(kBroken[kind_of_break]);
        } else {
          machine.Lie();
        }
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
