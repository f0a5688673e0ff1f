// A fuzz target as an ordinary test: its seeds, its corpus, and mutations of both.
//
// FEDWATT_FUZZ_SEEDS=<folder> also writes the seeds there, for a fuzzer to start from.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/random.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::fuzz_accepted;
using ::fedwatt::testing::FuzzSeeds;

void Feed(const std::string& input) {
  fuzz_accepted = false;
  // A copy of exactly this size, so that sanitizers see a step beyond.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<std::string> Corpus() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(FEDWATT_FUZZ_CORPUS)) paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> inputs;
  for (const std::string& path : paths) {
    absl::StatusOr<std::string> input = ReadFile(path);
    EXPECT_TRUE(input.ok()) << input.status();
    inputs.push_back(input.value_or(""));
  }
  return inputs;
}

// Flips bits and overwrites one to four times; every other time also inserts, removes or truncates, which most decoders notice at once.
std::string Mutated(std::string bytes, Random& random) {
  const uint64_t times = 1 + random.Below(4), kinds = random.Below(2) == 0 ? 3 : 6;
  for (uint64_t i = 0; i < times; ++i) {
    if (bytes.empty()) bytes = "x";
    const size_t place = random.Below(bytes.size());
    switch (random.Below(kinds)) {
      case 0:
        bytes[place] ^= static_cast<char>(1 << random.Below(8));
        break;
      case 1:
        bytes[place] = static_cast<char>(random.Next());
        break;
      case 2:
        bytes[place] = random.Below(2) == 0 ? '\0' : '\xff';
        break;
      case 3:
        bytes.insert(place, 1 + random.Below(4), static_cast<char>(random.Next()));
        break;
      case 4:
        bytes.erase(place, 1 + random.Below(4));
        break;
      default:
        bytes.resize(place);
        break;
    }
  }
  return bytes;
}

TEST(FEDWATT_FUZZ_SUITE, SeedsAreAccepted) {
  const std::vector<std::string> seeds = FuzzSeeds();
  ASSERT_FALSE(seeds.empty());
  for (size_t i = 0; i < seeds.size(); ++i) {
    Feed(seeds[i]);
    EXPECT_TRUE(fuzz_accepted) << i;
    if (const char* folder = std::getenv("FEDWATT_FUZZ_SEEDS")) {
      EXPECT_TRUE(WriteFileAtomically(absl::StrCat(folder, "/seed", i), seeds[i]).ok());
    }
  }
}

TEST(FEDWATT_FUZZ_SUITE, BearsItsCorpus) {
  const std::vector<std::string> corpus = Corpus();
  EXPECT_GE(corpus.size(), 10u);
  for (const std::string& input : corpus) Feed(input);
}

TEST(FEDWATT_FUZZ_SUITE, BearsMutations) {
  std::vector<std::string> inputs = Corpus();
  for (std::string& seed : FuzzSeeds()) inputs.push_back(std::move(seed));
  Random random(1);
  for (int trial = 0; trial < 5000; ++trial) Feed(Mutated(inputs[random.Below(inputs.size())], random));
}

}  // namespace
}  // namespace fedwatt
