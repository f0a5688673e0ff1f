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
  kUpdate = 2,  // names its layout by digest alone; payload is an update
  kModelDelta = 3,  // likewise; payload leads from one version of a chain to another (round/model_chain.h)
};

struct ContainerHeader {
  ContainerKind kind = ContainerKind::kModel;
  std::string codec;      // the pipeline that made the payload, as in `compression.uplink`; [1, 1024] printable ASCII characters, no space
  Digest layout_digest;    // kUpdate; WriteContainer takes the layout's own for kModel
  ParameterLayout layout;  // kModel only; its digest equals layout_digest
};

struct ContainerView {
  ContainerHeader header;
  std::string_view payload;  // borrows from the parsed bytes
};

// Header, payload and a CRC32C over each. Cost: one copy of the payload.
std::string WriteContainer(const ContainerHeader& header, std::string_view payload);

// Parses bytes that may be hostile: at most `max_bytes` long, nothing is allocated that the bytes do not hold.
// Errors: DATA_LOSS  truncated, wrong magic, wrong checksum, trailing bytes
//         INVALID_ARGUMENT  well-formed but not valid (unknown kind or version, bad codec spelling or layout)
//         RESOURCE_EXHAUSTED  longer than max_bytes
// each with RejectionOf() garbage, truncated or oversize.
absl::StatusOr<ContainerView> ParseContainer(std::string_view bytes, int64_t max_bytes);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_CONTAINER_H_
