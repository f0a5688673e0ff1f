// Packers unpack any bytes to at most what they may, or to DATA_LOSS; what they pack comes back.
// Input: packer, the most bytes, bytes.
#include <memory>
#include <string>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/packer.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {
namespace {

const std::vector<std::unique_ptr<Packer>>& AllPackers() {
  static const auto& packers = *[] {
    auto* made = new std::vector<std::unique_ptr<Packer>>;
    for (const char* name : {"zstd"}) made->push_back(*(*Packers().Find(name))({}));
    return made;
  }();
  return packers;
}

}  // namespace

std::vector<std::string> testing::FuzzSeeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < AllPackers().size(); ++i) {
    for (size_t size : {1, 20, 3000}) {
      Random random(size);
      std::string bytes(size, '\0');
      for (char& c : bytes) c = static_cast<char>(random.Below(3) * random.Below(90));
      seeds.push_back(std::string{static_cast<char>(i), static_cast<char>(20)} + *AllPackers()[i]->Pack(bytes));
    }
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  testing::FuzzInput input(data, size);
  const Packer& packer = *AllPackers()[input.Below(AllPackers().size())];
  const size_t most = input.Byte() * size_t{256};
  const absl::StatusOr<std::string> unpacked = packer.Unpack(input.Rest(), most);
  FEDWATT_CHECK(unpacked.ok() || unpacked.status().code() == absl::StatusCode::kDataLoss);
  testing::fuzz_accepted = unpacked.ok();
  if (unpacked.ok()) FEDWATT_CHECK(unpacked->size() <= most);
  FEDWATT_CHECK(*packer.Unpack(*packer.Pack(input.Rest()), input.Rest().size()) == input.Rest());
  return 0;
}
