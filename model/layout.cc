#include "fedwatt/model/layout.h"

#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "layout_bytes.h"

namespace fedwatt {
namespace {

constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxRank = 8;

absl::Status ValidateEntry(const LayoutEntry& entry, size_t index) {
  const std::string where = absl::StrCat("layout entry ", index);
  if (entry.name.empty() || entry.name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": name has ", entry.name.size(), " bytes, expected [1, 255]"));
  }
  if (entry.kind < EntryKind::kParameter || entry.kind > EntryKind::kLocal) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": unknown kind ", static_cast<int>(entry.kind)));
  }
  if (entry.dtype < Dtype::kFloat32 || entry.dtype > Dtype::kInt64) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": unknown dtype ", static_cast<int>(entry.dtype)));
  }
  if (entry.dtype == Dtype::kInt64 && entry.kind != EntryKind::kLocal) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": integers are allowed in local entries only"));
  }
  if (entry.shape.size() > kMaxRank) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", entry.shape.size(), " dimensions, expected at most 8"));
  }
  int64_t count = 1;
  for (int64_t dimension : entry.shape) {
    if (dimension < 1) return absl::InvalidArgumentError(absl::StrCat(where, ": dimension ", dimension, ", expected >= 1"));
    // Division, not a product: the dimensions may come from a hostile container.
    if (dimension > ParameterLayout::kMaxValueCount / count) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": more than ", ParameterLayout::kMaxValueCount, " values"));
    }
    count *= dimension;
  }
  return absl::OkStatus();
}

}  // namespace

namespace internal {

void PutLayoutEntries(const std::vector<LayoutEntry>& entries, ByteWriter& writer) {
  for (const LayoutEntry& entry : entries) {
    writer.Put<uint32_t>(static_cast<uint32_t>(entry.name.size()));
    writer.PutBytes(entry.name);
    writer.Put(static_cast<uint8_t>(entry.dtype));
    writer.Put(static_cast<uint8_t>(entry.kind));
    writer.Put(static_cast<uint8_t>(entry.shape.size()));
    for (int64_t dimension : entry.shape) writer.Put(static_cast<uint64_t>(dimension));
  }
}

}  // namespace internal

int64_t LayoutEntry::element_count() const {
  int64_t count = 1;
  for (int64_t dimension : shape) count *= dimension;
  return count;
}

absl::StatusOr<ParameterLayout> ParameterLayout::Create(std::vector<LayoutEntry> entries) {
  if (static_cast<int64_t>(entries.size()) > kMaxEntryCount) {
    return absl::InvalidArgumentError(absl::StrCat("layout: ", entries.size(), " entries, expected at most ", kMaxEntryCount));
  }
  ParameterLayout layout;
  std::set<std::string_view> names;
  for (size_t i = 0; i < entries.size(); ++i) {
    const LayoutEntry& entry = entries[i];
    FEDWATT_RETURN_IF_ERROR(ValidateEntry(entry, i));
    if (!names.insert(entry.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("layout entry ", i, ": its name is taken by an earlier entry"));
    }
    layout.offsets_.push_back(layout.value_count_);
    if (entry.kind != EntryKind::kLocal) layout.value_count_ += entry.element_count();
    if (layout.value_count_ > kMaxValueCount) {
      return absl::InvalidArgumentError(absl::StrCat("layout: more than ", kMaxValueCount, " values"));
    }
  }
  if (layout.value_count_ == 0) return absl::InvalidArgumentError("layout: no values; a model needs at least one");
  ByteWriter writer;
  internal::PutLayoutEntries(entries, writer);
  layout.digest_ = Sha256(writer.str());
  layout.entries_ = std::move(entries);
  return layout;
}

absl::Status ParameterLayout::CheckLength(size_t length) const {
  if (static_cast<int64_t>(length) == value_count_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("model vector has ", length, " values, the layout has ", value_count_));
}

Digest ModelDigest(const ParameterLayout& layout, absl::Span<const float> values) {
  FEDWATT_CHECK(static_cast<int64_t>(values.size()) == layout.value_count());
  Sha256Stream stream;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    ByteWriter head;
    head.Put<uint32_t>(static_cast<uint32_t>(entry.name.size()));
    head.PutBytes(entry.name);
    head.Put(static_cast<uint8_t>(entry.dtype));
    head.Put(static_cast<uint8_t>(entry.shape.size()));
    for (int64_t dimension : entry.shape) head.Put(static_cast<uint64_t>(dimension));
    stream.Update(head.str());
    stream.Update({reinterpret_cast<const char*>(values.data() + layout.offset(i)),
                   static_cast<size_t>(entry.element_count()) * sizeof(float)});
  }
  return stream.Finish();
}

}  // namespace fedwatt
