// Deltas and positions of the downlink's chain lead to a position of the layout or to DATA_LOSS.
// Input: layout, what to read (a position, or a delta from version 0 or 1), bytes.
#include <cmath>
#include <string>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/model_chain.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

// A chain of three versions over one layout.
struct Case {
  ParameterLayout layout;
  std::vector<ChainPosition> positions;
  std::vector<std::string> deltas;  // from each position to the last
};

Case MakeCase(std::vector<LayoutEntry> entries, uint64_t seed) {
  Case made{*ParameterLayout::Create(std::move(entries))};
  Random random(seed);
  std::vector<float> master(static_cast<size_t>(made.layout.value_count()));
  for (float& value : master) value = static_cast<float>(random.Normal() * 0.1);
  ModelChain chain = *ModelChain::Create(made.layout, *ParseChain("chain:step=0.02"), master);
  std::vector<Digest> digests;
  for (int version = 0; version < 3; ++version) {
    made.positions.push_back(chain.position());
    digests.push_back(chain.digest());
    for (size_t i = 0; i < master.size(); ++i) master[i] += static_cast<float>(0.05 * std::sin(static_cast<double>(i) * 0.1 + version));
    FEDWATT_CHECK(chain.Append(master).ok());
  }
  for (const Digest& digest : digests) made.deltas.push_back(chain.DeltaFrom(digest)->payload);
  return made;
}

const std::vector<Case>& Cases() {
  static const auto& cases = *new std::vector<Case>{
      MakeCase({{"w", {1}}}, 1),
      MakeCase({{"w", {12, 32}}, {"b", {12}}}, 2),
      MakeCase({{"mean", {3}, EntryKind::kAveragedBuffer}, {"w", {5, 40}}, {"steps", {}, EntryKind::kLocal, Dtype::kInt64}, {"b", {2, 2}}}, 3),
  };
  return cases;
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < Cases().size(); ++i) {
    const Case& c = Cases()[i];
    for (size_t version = 0; version < 2; ++version) {
      seeds.push_back(std::string{static_cast<char>(i), '\0'} + WriteChainPosition(c.positions[version]));
      seeds.push_back(std::string{static_cast<char>(i), static_cast<char>(1 + version)} + c.deltas[version]);
    }
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const Case& c = Cases()[input.Below(Cases().size())];
  const size_t what = input.Below(3);
  absl::StatusOr<ChainPosition> position = what == 0 ? ReadChainPosition(c.layout, input.Rest()) : c.positions[what - 1];
  absl::Status status = position.status();
  if (what != 0) status = ApplyChainDelta(c.layout, input.Rest(), *position);
  FEDWATT_CHECK(status.ok() || status.code() == absl::StatusCode::kDataLoss);
  testing::fuzz_accepted = status.ok();
  if (!status.ok()) return 0;
  FEDWATT_CHECK(static_cast<int64_t>(position->coefficients.size()) == c.layout.value_count());
  for (float coefficient : position->coefficients) FEDWATT_CHECK(std::isfinite(coefficient));
  FEDWATT_CHECK(static_cast<int64_t>(ChainValues(c.layout, *position).size()) == c.layout.value_count());
  if (what == 0) FEDWATT_CHECK(WriteChainPosition(*position) == input.Rest());
  return 0;
}
