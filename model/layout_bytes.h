// The bytes of a layout's entries: the same ones are hashed for the layout digest and written into a model container.
#ifndef FEDWATT_MODEL_LAYOUT_BYTES_H_
#define FEDWATT_MODEL_LAYOUT_BYTES_H_

#include <vector>

#include "fedwatt/base/bytes.h"
#include "fedwatt/model/layout.h"

namespace fedwatt::internal {

// Per entry: name length (u32), name, dtype (u8), kind (u8), rank (u8), dimensions (u64 each).
void PutLayoutEntries(const std::vector<LayoutEntry>& entries, ByteWriter& writer);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_LAYOUT_BYTES_H_
