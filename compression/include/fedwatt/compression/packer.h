// Lossless coders of the bytes that a codec made. One file each under compression/packers/.
#ifndef FEDWATT_COMPRESSION_PACKER_H_
#define FEDWATT_COMPRESSION_PACKER_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/compression/codec.h"

namespace fedwatt {

// Thread-compatible. The name travels on the wire: changed bytes mean a new name.
class Packer {
 public:
  virtual ~Packer() = default;
  virtual std::string_view name() const = 0;
  virtual absl::StatusOr<std::string> Pack(std::string_view bytes) const = 0;
  // Never makes more than `max_bytes`, whatever `packed` claims. Errors: DATA_LOSS  damaged, or longer than that
  virtual absl::StatusOr<std::string> Unpack(std::string_view packed, size_t max_bytes) const = 0;
};

using PackerFactory = std::function<absl::StatusOr<std::unique_ptr<Packer>>(const CodecOptions&)>;
using PackerRegistry = Registry<PackerFactory>;
PackerRegistry& Packers();

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_PACKER_H_
