// meter_fuzz FOLDER [WINDOWS [SEED]]: tests/energy/meter_fuzz.h at length, seven tenths of the windows for rapl and one for each other meter over counters. FOLDER is
// made, and is best on a file system in memory. Exit code 1 where joules were invented, a healthy window's interval misses the truth, or more than 0.1 % of all stated
// ones do.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/energy/meter_fuzz.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: meter_fuzz FOLDER [WINDOWS [SEED]]\n");
    return 2;
  }
  std::filesystem::create_directories(argv[1]);
  const int64_t windows = argc > 2 ? std::atoll(argv[2]) : 10'000'000;
  const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
  bool held = true;
  std::printf("seed %" PRIu64 "\n%-10s %10s %8s %10s %8s %8s %8s %8s %10s %10s %8s\n", seed, "meter", "windows", "faulted", "stated", "missing*", "wrapped", "negative", "phantom",
              "phantom J", "outside*", "outside");
  for (const std::string& meter : fedwatt::testing::FuzzedMeters()) {
    const auto r = fedwatt::testing::FuzzCounters(meter, argv[1], seed, meter == "rapl" ? windows / 10 * 7 : windows / 10);
    std::printf("%-10s %10" PRId64 " %8" PRId64 " %10" PRId64 " %8" PRId64 " %8" PRId64 " %8" PRId64 " %8" PRId64 " %10.3f %10" PRId64 " %8" PRId64 "\n", meter.c_str(),
                r.windows, r.faulted, r.stated, r.missing_healthy, r.wrapped, r.negative, r.phantom, r.phantom_joules, r.outside_healthy, r.outside);
    std::fflush(stdout);
    held = held && r.negative == 0 && r.phantom == 0 && r.outside_healthy == 0 && r.outside * 1000 <= r.stated;
  }
  std::printf("*: of windows without a fault\n");
  return held ? 0 : 1;
}
