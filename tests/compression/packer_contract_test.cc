// What every registered packer promises. A new packer is found here with no edit.
#include "fedwatt/base/random.h"
#include "fedwatt/compression/packer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;

class PackerContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(PackerFactory make, Packers().Find(GetParam()));
    ASSERT_OK_AND_ASSIGN(packer_, make({}));
  }
  std::string Pack(std::string_view bytes) {
    absl::StatusOr<std::string> packed = packer_->Pack(bytes);
    EXPECT_THAT(packed, IsOk());
    return packed.value_or("");
  }
  // Half zeros, half noise: neither stored nor trivial.
  static std::string Mixed(size_t size, uint64_t seed) {
    Random random(seed);
    std::string bytes(size, '\0');
    for (char& c : bytes) c = random.Below(2) == 0 ? '\0' : static_cast<char>(random.Next());
    return bytes;
  }

  std::unique_ptr<Packer> packer_;
};

TEST_P(PackerContractTest, IsNamedAsRegistered) { EXPECT_EQ(packer_->name(), GetParam()); }

TEST_P(PackerContractTest, BytesComeBack) {
  for (size_t size : {0, 1, 2, 3, 17, 255, 256, 65'537, 400'000}) {
    for (const std::string& bytes : {Mixed(size, size), std::string(size, 'x')}) {
      const std::string packed = Pack(bytes);
      EXPECT_EQ(packed, Pack(bytes));
      EXPECT_LE(packed.size(), size + size / 64 + 64);
      ASSERT_OK_AND_ASSIGN(std::string unpacked, packer_->Unpack(packed, size));
      ASSERT_EQ(unpacked, bytes) << size;
      EXPECT_THAT(packer_->Unpack(packed, size + 1), IsOk());
      if (size > 0) {
        EXPECT_THAT(packer_->Unpack(packed, size - 1), StatusIs(absl::StatusCode::kDataLoss, _));
      }
    }
  }
}

TEST_P(PackerContractTest, RefusesEveryOtherLength) {
  const std::string packed = Pack(Mixed(500, 1));
  for (size_t size = 1; size < packed.size(); ++size) {
    ASSERT_THAT(packer_->Unpack(std::string_view(packed).substr(0, size), 1000), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
  EXPECT_THAT(packer_->Unpack(packed + '\0', 1000), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_P(PackerContractTest, BearsDamageAndRandomBytes) {
  const std::string good = Pack(Mixed(300, 1));
  Random random(2);
  for (int trial = 0; trial < 5000; ++trial) {
    std::string bytes = good;
    if (trial % 2 == 0) {
      for (uint64_t i = 0; i <= random.Below(3); ++i) bytes[random.Below(bytes.size())] ^= static_cast<char>(1 << random.Below(8));
    } else {
      bytes.resize(random.Below(300));
      for (char& c : bytes) c = static_cast<char>(random.Next());
      // So that what follows the header is reached.
      bytes.replace(0, std::min(bytes.size(), size_t{5}), good.substr(0, std::min(bytes.size(), size_t{5})));
    }
    const absl::StatusOr<std::string> unpacked = packer_->Unpack(bytes, 1000);
    ASSERT_TRUE(unpacked.ok() || unpacked.status().code() == absl::StatusCode::kDataLoss) << unpacked.status();
    if (unpacked.ok()) {
      ASSERT_LE(unpacked->size(), 1000u);
    }
  }
}

TEST_P(PackerContractTest, RefusesUnknownOptions) {
  EXPECT_THAT((*Packers().Find(GetParam()))({{"nonsense", "1"}}), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

INSTANTIATE_TEST_SUITE_P(Registered, PackerContractTest, ::testing::ValuesIn(Packers().Names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt
