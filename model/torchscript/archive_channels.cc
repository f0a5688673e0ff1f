#include "fedwatt/model/torchscript/archive_channels.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/text.h"

namespace fedwatt {

std::string Summarise(const ArchiveChannels& channels) {
  int64_t count = 0;
  for (const ChannelGroup& group : channels.groups) count += group.size;
  std::string text = absl::StrCat(channels.groups.size(), channels.groups.size() == 1 ? " group with " : " groups with ", count, " channels can be dropped");
  if (channels.whole.empty()) return text;
  return absl::StrCat(text, "; whole stay ", absl::StrJoin(channels.whole, ", ", [](std::string* out, const WholeChannels& whole) {
                        absl::StrAppend(out, OneLine(whole.name), " (", whole.size, " channels: ", OneLine(whole.reason), ")");
                      }));
}

}  // namespace fedwatt
