// Associative recall, a task that only a long memory solves, generated from a seed (after Graves et al. 2014, arXiv 1410.5401, section 4.3, in the one-query form of
// Arora et al. 2023, arXiv 2312.04927).
//
// A sequence of `sequence_length` tokens: 8 pairs of a key and the value that follows it, at random places, keys different from each other; blanks in between; and, as
// the last token, one of the keys. The label is its value. Of 33 tokens 0 is the blank, 1 to 16 are keys, 17 to 32 values: who guesses among values is right once in 16
// times, who remembers which values there were but not their keys once in 8. Pairs are spread over the whole length, so the distance to the answer grows with it.
#include <algorithm>
#include <array>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/reader.h"
#include "reading.h"

namespace fedwatt {
namespace {

constexpr int64_t kPairs = 8, kKeys = 16, kValues = 16;
constexpr int64_t kMostTokens = int64_t{1} << 30;

void Append(int64_t length, Random& random, ExampleStore& store) {
  auto& tokens = std::get<std::vector<int32_t>>(store.inputs);
  const size_t begin = tokens.size();
  tokens.resize(begin + static_cast<size_t>(length), 0);
  std::array<int32_t, kKeys> keys;
  std::iota(keys.begin(), keys.end(), 1);
  // The first kPairs of a shuffle: keys without repeats.
  for (size_t i = 0; i < kPairs; ++i) std::swap(keys[i], keys[i + random.Below(kKeys - i)]);
  // Places of the pairs: which of the room that is left comes before each; sorted draws of kPairs out of the room, with repeats.
  const int64_t room = length - 1 - 2 * kPairs;
  std::array<int64_t, kPairs> before;
  for (int64_t& blanks : before) blanks = static_cast<int64_t>(random.Below(static_cast<uint64_t>(room) + 1));
  std::sort(before.begin(), before.end());
  const size_t asked = random.Below(kPairs);
  for (size_t i = 0; i < kPairs; ++i) {
    const size_t at = begin + static_cast<size_t>(before[i]) + 2 * i;
    const int32_t value = static_cast<int32_t>(1 + kKeys + static_cast<int64_t>(random.Below(kValues)));
    tokens[at] = keys[i];
    tokens[at + 1] = value;
    if (i == asked) store.labels.push_back(value);
  }
  tokens.back() = keys[asked];
}

absl::StatusOr<DataSplit> Generate(const DataOptions& options) {
  if (options.sequence_length < 2 * kPairs + 1) {
    return absl::InvalidArgumentError(absl::StrCat("data: sequence_length: associative_recall needs at least ", 2 * kPairs + 1, ", got ", options.sequence_length));
  }
  if (options.examples < 2 || options.examples > kMostTokens / options.sequence_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("data: examples: expected at least 2, and at most ", kMostTokens, " tokens in all, got ", options.examples, " of ", options.sequence_length));
  }
  if (!options.test_path.empty()) return absl::InvalidArgumentError("data: test_path is set, but associative_recall reads no file");
  const int64_t held_out = internal::HeldOutCount(options.examples, options.held_out_fraction);
  Random random(DeriveSeed("associative recall", {options.seed}));
  ExampleStore train, test;
  for (ExampleStore* store : {&train, &test}) {
    store->input_shape = {options.sequence_length};
    store->inputs = std::vector<int32_t>();
    store->output_count = 1 + kKeys + kValues;
    const int64_t count = store == &train ? options.examples - held_out : held_out;
    std::get<std::vector<int32_t>>(store->inputs).reserve(static_cast<size_t>(count * options.sequence_length));
    for (int64_t i = 0; i < count; ++i) Append(options.sequence_length, random, *store);
  }
  return internal::MakeSplit(std::move(train), std::move(test));
}

}  // namespace

namespace internal {
void InstallReader_associative_recall(ReaderRegistry& registry) { FEDWATT_CHECK(registry.Register("associative_recall", Generate).ok()); }
}  // namespace internal
}  // namespace fedwatt
