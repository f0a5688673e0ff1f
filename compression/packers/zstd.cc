// zstd: Zstandard (RFC 8878), one frame that tells its content's size. Nothing packs to nothing.
//
// For codecs that leave redundancy: float32, bfloat16, int8. What ends in EncodeSymbols is at its entropy already.
// Option: level=N, N in [1, 19], default 3. Packed bytes may differ between versions of the library; what they unpack to does not.
// Cost: packing slows down a hundredfold from level 1 to 19; unpacking is fast at any level.
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/packer.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

class Zstd : public Packer {
 public:
  explicit Zstd(int level) : level_(level) {}
  std::string_view name() const override { return "zstd"; }

  absl::StatusOr<std::string> Pack(std::string_view bytes) const override {
    if (bytes.empty()) return std::string();
    std::string packed(ZSTD_compressBound(bytes.size()), '\0');
    const size_t size = ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), level_);
    if (ZSTD_isError(size)) return absl::InternalError(absl::StrCat("zstd: ", ZSTD_getErrorName(size)));
    packed.resize(size);
    return packed;
  }

  absl::StatusOr<std::string> Unpack(std::string_view packed, size_t max_bytes) const override {
    if (packed.empty()) return std::string();
    const unsigned long long size = ZSTD_getFrameContentSize(packed.data(), packed.size());
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN) return absl::DataLossError("zstd: no frame with a content size");
    if (size == 0 || size > max_bytes) return absl::DataLossError(absl::StrCat("zstd: ", size, " bytes, expected [1, ", max_bytes, "]"));
    // A block of 3 bytes or more holds at most 128 KiB, so that a claim alone takes no memory.
    if (size / ZSTD_BLOCKSIZE_MAX > packed.size() / 3) return absl::DataLossError(absl::StrCat("zstd: ", size, " bytes out of ", packed.size()));
    // One frame, and nothing behind it.
    if (ZSTD_findFrameCompressedSize(packed.data(), packed.size()) != packed.size()) {
      return absl::DataLossError("zstd: the frame is truncated or not alone");
    }
    std::string bytes(size, '\0');
    const size_t got = ZSTD_decompress(bytes.data(), bytes.size(), packed.data(), packed.size());
    if (ZSTD_isError(got)) return absl::DataLossError(absl::StrCat("zstd: ", ZSTD_getErrorName(got)));
    if (got != size) return absl::DataLossError(absl::StrCat("zstd: ", got, " bytes, expected ", size));
    return bytes;
  }

 private:
  const int level_;
};

absl::StatusOr<std::unique_ptr<Packer>> MakeZstd(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("zstd", options, {"level"}));
  FEDWATT_ASSIGN_OR_RETURN(int64_t level, internal::IntegerOption("zstd", options, "level", 3, 1, 19));
  return std::make_unique<Zstd>(static_cast<int>(level));
}

}  // namespace

namespace internal {

void InstallPacker_zstd(PackerRegistry& registry) { FEDWATT_CHECK(registry.Register("zstd", MakeZstd).ok()); }

}  // namespace internal
}  // namespace fedwatt
