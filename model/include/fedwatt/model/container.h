// The bytes in which models and updates travel and lie on disk. docs/container.md gives them byte for byte.
#ifndef FEDWATT_MODEL_CONTAINER_H_
#define FEDWATT_MODEL_CONTAINER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// Numbers are on the wire; never renumber.
enum class ContainerKind : uint8_t {
  kModel = 1,   // carries its layout; payload is a whole model
  kUpdate = 2,  // names layout and codec by tags alone, since the plan says both; payload is an update
  kModelDelta = 3,  // likewise; payload leads from one version of a chain to another (round/model_chain.h)
};

struct ContainerHeader {
  ContainerKind kind = ContainerKind::kModel;
  std::string codec;      // the pipeline that made the payload, as in `compression.uplink`; [1, 1024] printable ASCII characters, no space
  Digest layout_digest;    // WriteContainer takes the layout's own for kModel
  ParameterLayout layout;  // kModel only; its digest equals layout_digest
};

struct ContainerView {
  // Whether the payload was made for this layout, by this codec; but for a kModel a mistake goes unseen once in 2^32 and 2^16.
  bool IsFor(const Digest& digest) const;
  bool IsBy(std::string_view codec) const;

  ContainerHeader header;  // without layout_digest and codec but for a kModel
  uint32_t layout_tag = 0;
  uint16_t codec_tag = 0;
  std::string_view payload;  // borrows from the parsed bytes
};

// Header, payload and a CRC32C over both. Cost: one copy of the payload.
std::string WriteContainer(const ContainerHeader& header, std::string_view payload);

// Of an update or a model delta that takes `container_bytes` in all: those of its payload. 0 where there are too few.
int64_t PayloadBytes(int64_t container_bytes);

// Parses bytes that may be hostile: at most `max_bytes` long, nothing is allocated that the bytes do not hold.
// Errors: DATA_LOSS  truncated, wrong magic, wrong checksum, trailing bytes
//         INVALID_ARGUMENT  well-formed but not valid (unknown kind or version, bad codec spelling or layout)
//         RESOURCE_EXHAUSTED  longer than max_bytes
// each with RejectionOf() garbage, truncated or oversize.
absl::StatusOr<ContainerView> ParseContainer(std::string_view bytes, int64_t max_bytes);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_CONTAINER_H_
