// NVIDIA GPUs, asked through the driver's own library, libnvidia-ml.so.1, which is opened at run time where there is one.
//
// nvmlDeviceGetTotalEnergyConsumption counts millijoules since the driver was loaded (Volta and later), a new number about every 100 ms. Older GPUs only
// tell their power; it is sampled, and because the sensor itself looks only part of the time (A100, H100: a quarter, arXiv 2312.02741), it is trusted to 10 %.
// Counts the board of each GPU, idle power included, whoever uses it, and nothing of the rest of the machine: `auto` never takes it.
#include <dlfcn.h>

#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "counter_meter.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "power_meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

constexpr double kSampledError = 0.1;
constexpr unsigned kMostDevices = 1024;
constexpr double kBurstFactor = 2;  // over the enforced limit, for milliseconds
constexpr Power kMostPower = Watts(3000);

// The part of the library's interface that is used, by its documented signatures; nvmlReturn_t is an enum, 0 is success, nvmlDevice_t a pointer.
class Library {
 public:
  using Device = void*;
  static constexpr int kSuccess = 0, kNotSupported = 3, kNoPermission = 4;

  // UNIMPLEMENTED  no library, or one that lacks a function; UNAVAILABLE  it cannot be initialised
  static absl::StatusOr<std::shared_ptr<Library>> Open(const std::string& root) {
    // The linker's search is only right for the real root.
    std::vector<std::string> paths;
    if (Below(root, "/") == "/") {
      paths.push_back("libnvidia-ml.so.1");
    } else {
      for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"}) {
        paths.push_back(Below(root, absl::StrCat(folder, "/libnvidia-ml.so.1")));
      }
    }
    void* handle = nullptr;
    for (const std::string& path : paths) {
      if (handle == nullptr) handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (handle == nullptr) return absl::UnimplementedError("no NVIDIA driver: libnvidia-ml.so.1 is not found");
    std::shared_ptr<Library> library(new Library(handle));
    if (!library->Find("nvmlInit_v2", library->init) || !library->Find("nvmlShutdown", library->shutdown) ||
        !library->Find("nvmlDeviceGetCount_v2", library->count) || !library->Find("nvmlDeviceGetHandleByIndex_v2", library->device)) {
      return absl::UnimplementedError("libnvidia-ml.so.1 lacks a function that every driver since 2014 has");
    }
    library->Find("nvmlDeviceGetTotalEnergyConsumption", library->energy);
    library->Find("nvmlDeviceGetPowerUsage", library->power);
    library->Find("nvmlDeviceGetEnforcedPowerLimit", library->limit);
    library->Find("nvmlDeviceGetMigMode", library->mig);
    library->Find("nvmlErrorString", library->error);
    if (const int result = library->init(); result != kSuccess) {
      library->shutdown = nullptr;
      return absl::UnavailableError(absl::StrCat("nvmlInit_v2: ", library->Says(result)));
    }
    return library;
  }
  ~Library() {
    if (shutdown != nullptr) shutdown();
    ::dlclose(handle_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  std::string Says(int result) const {
    const char* text = error == nullptr ? nullptr : error(result);
    return text == nullptr ? absl::StrCat("error ", result) : text;
  }
  absl::Status Check(const char* function, int result) const {
    if (result == kSuccess) return absl::OkStatus();
    const std::string message = absl::StrCat(function, ": ", Says(result));
    return result == kNoPermission ? absl::PermissionDeniedError(message) : absl::UnavailableError(message);
  }

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*device)(unsigned, Device*) = nullptr;
  // Optional ones, null where the library has none.
  int (*energy)(Device, unsigned long long*) = nullptr;  // mJ
  int (*power)(Device, unsigned*) = nullptr;             // mW
  int (*limit)(Device, unsigned*) = nullptr;             // mW
  int (*mig)(Device, unsigned*, unsigned*) = nullptr;    // current, pending; 1 = on
  const char* (*error)(int) = nullptr;

 private:
  explicit Library(void* handle) : handle_(handle) {}
  template <typename Function>
  bool Find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(handle_, name));
    return function != nullptr;
  }
  void* const handle_;
};

absl::StatusOr<int64_t> ReadEnergy(const Library& library, Library::Device device) {
  unsigned long long millijoules = 0;
  FEDWATT_RETURN_IF_ERROR(library.Check("nvmlDeviceGetTotalEnergyConsumption", library.energy(device, &millijoules)));
  if (millijoules > 9'000'000'000'000'000ULL) return absl::UnavailableError(absl::StrCat("nvml: ", millijoules, " mJ are no energy"));
  return static_cast<int64_t>(millijoules) * 1000;
}

absl::StatusOr<PowerSample> ReadPower(const Library& library, Library::Device device) {
  unsigned milliwatts = 0;
  FEDWATT_RETURN_IF_ERROR(library.Check("nvmlDeviceGetPowerUsage", library.power(device, &milliwatts)));
  const double watts = milliwatts / 1e3;
  return PowerSample{watts, kSampledError * watts};
}

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("nvml measures whole GPUs; it cannot tell one thread's joules from another's");
  FEDWATT_ASSIGN_OR_RETURN(std::shared_ptr<Library> library, Library::Open(options.root));
  unsigned count = 0;
  FEDWATT_RETURN_IF_ERROR(library->Check("nvmlDeviceGetCount_v2", library->count(&count)));
  std::set<std::string> wanted;
  for (absl::string_view index : absl::StrSplit(options.source, ',', absl::SkipEmpty())) wanted.emplace(absl::StripAsciiWhitespace(index));

  std::vector<CounterSource> counters;
  std::vector<PowerSource> powers;
  std::vector<std::string> left_out;
  const auto found = [&](const std::string& label, const std::string& refusal) {
    if (options.on_domain) options.on_domain({label, refusal});
    if (!refusal.empty()) left_out.push_back(absl::StrCat(label, " (", refusal, ")"));
  };
  for (unsigned i = 0; i < std::min(count, kMostDevices); ++i) {
    const std::string label = absl::StrCat("gpu-", i);
    Library::Device device = nullptr;
    if (!wanted.empty() && wanted.erase(absl::StrCat(i)) == 0) {
      found(label, "not named in energy.source");
      continue;
    }
    if (absl::Status status = library->Check("nvmlDeviceGetHandleByIndex_v2", library->device(i, &device)); !status.ok()) {
      found(label, std::string(status.message()));
      continue;
    }
    unsigned current = 0, pending = 0;
    if (library->mig != nullptr && library->mig(device, &current, &pending) == Library::kSuccess && current == 1) {
      found(label, "split into instances (MIG): its joules are not those of one of them");
      continue;
    }
    unsigned long long millijoules = 0;
    if (library->energy != nullptr && library->energy(device, &millijoules) == Library::kSuccess) {
      CounterSource source;
      source.label = label;
      unsigned milliwatts = 0;
      const bool limited = library->limit != nullptr && library->limit(device, &milliwatts) == Library::kSuccess && milliwatts > 0;
      source.spec.max_power = limited ? std::min(kMostPower, Watts(kBurstFactor * milliwatts / 1e3)) : kMostPower;
      source.spec.refresh = absl::Milliseconds(100);
      source.spec.frozen_after = absl::Seconds(2);
      source.read = [library, device] { return ReadEnergy(*library, device); };
      counters.push_back(std::move(source));
      found(label, "");
    } else if (library->power != nullptr && ReadPower(*library, device).ok()) {
      powers.push_back({label, [library, device] { return ReadPower(*library, device); }});
      found(label, "");
    } else {
      found(label, "tells neither energy nor power");
    }
  }
  if (!wanted.empty()) return absl::NotFoundError(absl::StrCat("energy.source: no GPU '", *wanted.begin(), "'; there are ", count, ", counted from 0"));
  constexpr const char* kCovers = "whole boards, idle power and other processes included, and nothing of the rest of the machine";
  if (!counters.empty() && powers.empty()) {
    CounterMeterOptions made;
    made.name = "nvml";
    made.covers = kCovers;
    made.sources = std::move(counters);
    made.left_out = std::move(left_out);
    made.covers_machine = false;
    return MakeCounterMeter(std::move(made), options);
  }
  if (!counters.empty()) {
    return absl::UnimplementedError("some GPUs count energy and others only tell power; remedy: name the numbers of GPUs of one kind in energy.source");
  }
  if (powers.empty()) return absl::UnimplementedError(left_out.empty() ? "the NVIDIA driver knows no GPU" : left_out[0]);
  PowerMeterOptions made;
  made.name = "nvml";
  made.tier = EnergyTier::kComponent;
  made.covers = kCovers;
  made.sources = std::move(powers);
  made.left_out = std::move(left_out);
  made.covers_machine = false;
  return MakePowerMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_nvml(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("nvml", MeterEntry{Create, /*preference=*/-1}).ok());
}

}  // namespace internal
}  // namespace fedwatt
