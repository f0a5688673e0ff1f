// A libnvidia-ml.so.1 for tests: its GPUs are folders 0, 1, ... in the folder that FEDWATT_FAKE_NVML names, with files energy (mJ), power (mW), limit (mW) and mig (0
// or 1). A number below zero is the error that the call returns; a file that is not there, "not supported". A file `init` may hold an error, too.
#include <cstdlib>
#include <fstream>
#include <string>

namespace {

constexpr int kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3;

std::string Folder() {
  const char* folder = std::getenv("FEDWATT_FAKE_NVML");
  return folder == nullptr ? "/nonexistent" : folder;
}

// The whole file is one number and a line's end.
bool Number(const std::string& file, long long& number) {
  std::ifstream in(Folder() + "/" + file);
  return in >> number && in.get() == '\n';
}

template <typename Value>
int Tell(void* device, const char* file, Value* value) {
  long long number;
  if (!Number(std::to_string(reinterpret_cast<size_t>(device) - 1) + "/" + file, number)) return kNotSupported;
  if (number < 0) return static_cast<int>(-number);
  *value = static_cast<Value>(number);
  return kSuccess;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  long long error;
  return Number("init", error) ? static_cast<int>(-error) : kSuccess;
}
int nvmlShutdown() { return kSuccess; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 0;
  while (std::ifstream(Folder() + "/" + std::to_string(*count) + "/name")) ++*count;
  return kSuccess;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  unsigned count;
  nvmlDeviceGetCount_v2(&count);
  if (index >= count) return kInvalidArgument;
  *device = reinterpret_cast<void*>(size_t{index} + 1);
  return kSuccess;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) { return Tell(device, "energy", millijoules); }
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) { return Tell(device, "power", milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) { return Tell(device, "limit", milliwatts); }
int nvmlDeviceGetMigMode(void* device, unsigned* current, unsigned* pending) {
  *pending = 0;
  return Tell(device, "mig", current);
}
const char* nvmlErrorString(int error) { return error == kNotSupported ? "Not Supported" : error == 4 ? "Insufficient Permissions" : "Fake Error"; }

}  // extern "C"
