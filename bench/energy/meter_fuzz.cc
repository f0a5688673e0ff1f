// meter_fuzz FOLDER [WINDOWS [SEED]]: tests/energy/meter_fuzz.h at length. FOLDER is made, and is best on a file system in memory. Exit code 1 where joules were
// invented, a healthy window's interval misses the truth, or more than 0.1 % of all stated ones do.
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
  const auto r = fedwatt::testing::FuzzRapl(argv[1], seed, windows);
  std::printf("windows %" PRId64 ", seed %" PRIu64 ", faulted %" PRId64 ", stated %" PRId64 ", missing without a fault %" PRId64 ", wrapped %" PRId64 "\n", r.windows, seed,
              r.faulted, r.stated, r.missing_healthy, r.wrapped);
  std::printf("negative %" PRId64 ", phantom %" PRId64 " (%.3f J), truth outside the interval: without a fault %" PRId64 ", of all stated %" PRId64 " (%.4f %%)\n",
              r.negative, r.phantom, r.phantom_joules, r.outside_healthy, r.outside,
              100 * static_cast<double>(r.outside) / static_cast<double>(r.stated));
  return r.negative == 0 && r.phantom == 0 && r.outside_healthy == 0 && r.outside * 1000 <= r.stated ? 0 : 1;
}
