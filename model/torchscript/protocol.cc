#include "fedwatt/model/torchscript/protocol.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <set>
#include <utility>

#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr size_t kChunkBytes = 4 << 20;  // memory grows by this much ahead of what arrived

absl::Status Gone() { return absl::UnavailableError("the other end of the trainer's socket is gone"); }

// Sends or receives all of [data, data + size); false when the other end closed in an orderly way before the first byte.
template <typename Transfer>
absl::StatusOr<bool> TransferAll(Transfer transfer, short events, size_t size, const FrameWaiter& wait) {
  size_t done = 0;
  while (done < size) {
    if (wait) FEDWATT_RETURN_IF_ERROR(wait(events));
    const ssize_t n = transfer(done, size - done);
    if (n > 0) {
      done += n;
    } else if (n == 0) {
      if (done == 0) return false;
      return Gone();
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return Gone();
    } else if (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
      return ErrnoStatus(errno, "trainer socket");
    }
  }
  return true;
}

absl::Status SendAll(int fd, std::string_view bytes, const FrameWaiter& wait) {
  const int flags = MSG_NOSIGNAL | (wait ? MSG_DONTWAIT : 0);
  return TransferAll([&](size_t at, size_t left) { return send(fd, bytes.data() + at, left, flags); }, POLLOUT, bytes.size(), wait)
      .status();
}

absl::Status ReceiveAll(int fd, char* data, size_t size, const FrameWaiter& wait) {
  const int flags = wait ? MSG_DONTWAIT : 0;
  FEDWATT_ASSIGN_OR_RETURN(const bool open,
                           TransferAll([&](size_t at, size_t left) { return recv(fd, data + at, left, flags); }, POLLIN, size, wait));
  return open ? absl::OkStatus() : Gone();
}

template <typename T>
void PutVector(ByteWriter& out, const std::vector<T>& values) {
  out.Put<uint64_t>(values.size());
  out.PutBytes({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
}

template <typename T>
absl::StatusOr<std::vector<T>> GetVector(ByteReader& in, std::string_view field) {
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t count, in.Get<uint64_t>(field));
  if (count > in.remaining() / sizeof(T)) return absl::DataLossError(absl::StrCat("trainer protocol: ", std::string(field), " is cut short"));
  FEDWATT_ASSIGN_OR_RETURN(const std::string_view raw, in.GetBytes(count * sizeof(T), field));
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), raw.data(), raw.size());
  return values;
}

// The rows of `all` that `indices` name, `size` elements each.
template <typename T>
std::vector<T> Rows(const std::vector<T>& all, const std::vector<int32_t>& indices, int64_t size) {
  std::vector<T> rows;
  if (all.empty()) return rows;
  rows.reserve(indices.size() * size);
  for (int32_t index : indices) rows.insert(rows.end(), all.begin() + index * size, all.begin() + (index + 1) * size);
  return rows;
}

}  // namespace

absl::Status WriteFrame(int fd, FrameKind kind, std::string_view payload, const FrameWaiter& wait) {
  ByteWriter header;
  header.Put(static_cast<uint32_t>(kind));
  header.Put<uint64_t>(payload.size());
  FEDWATT_RETURN_IF_ERROR(SendAll(fd, header.str(), wait));
  return SendAll(fd, payload, wait);
}

absl::StatusOr<Frame> ReadFrame(int fd, uint64_t max_bytes, const FrameWaiter& wait) {
  char header[12];
  FEDWATT_RETURN_IF_ERROR(ReceiveAll(fd, header, sizeof(header), wait));
  ByteReader in({header, sizeof(header)}, "trainer frame");
  Frame frame;
  frame.kind = static_cast<FrameKind>(*in.Get<uint32_t>("kind"));
  const uint64_t size = *in.Get<uint64_t>("length");
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("trainer frame of ", size, " bytes, at most ", max_bytes, " are expected"));
  }
  while (frame.payload.size() < size) {
    const size_t at = frame.payload.size();
    const size_t chunk = std::min<uint64_t>(size - at, std::max(kChunkBytes, at));
    frame.payload.resize(at + chunk);
    FEDWATT_RETURN_IF_ERROR(ReceiveAll(fd, frame.payload.data() + at, chunk, wait));
  }
  return frame;
}

void PutString(ByteWriter& out, std::string_view text) {
  out.Put<uint64_t>(text.size());
  out.PutBytes(text);
}

absl::StatusOr<std::string> GetString(ByteReader& in, std::string_view field, size_t max_bytes) {
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t size, in.Get<uint64_t>(field));
  if (size > max_bytes) return absl::DataLossError(absl::StrCat("trainer protocol: ", std::string(field), " of ", size, " bytes"));
  FEDWATT_ASSIGN_OR_RETURN(const std::string_view bytes, in.GetBytes(size, field));
  return std::string(bytes);
}

void PutShape(ByteWriter& out, const std::vector<int64_t>& shape) { PutVector(out, shape); }
absl::StatusOr<std::vector<int64_t>> GetShape(ByteReader& in, std::string_view field) { return GetVector<int64_t>(in, field); }

void PutValues(ByteWriter& out, absl::Span<const float> values) {
  out.Put<uint64_t>(values.size());
  out.PutBytes({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}
absl::StatusOr<std::vector<float>> GetValues(ByteReader& in, std::string_view field) { return GetVector<float>(in, field); }

void PutLayout(ByteWriter& out, const ParameterLayout& layout) {
  out.Put<uint32_t>(layout.entries().size());
  for (const LayoutEntry& entry : layout.entries()) {
    PutString(out, entry.name);
    PutShape(out, entry.shape);
    out.Put(static_cast<uint8_t>(entry.kind));
    out.Put(static_cast<uint8_t>(entry.dtype));
  }
}

absl::StatusOr<ParameterLayout> GetLayout(ByteReader& in) {
  FEDWATT_ASSIGN_OR_RETURN(const uint32_t count, in.Get<uint32_t>("entry count"));
  if (count > ParameterLayout::kMaxEntryCount) return absl::DataLossError(absl::StrCat("trainer protocol: layout of ", count, " entries"));
  std::vector<LayoutEntry> entries;
  for (uint32_t i = 0; i < count; ++i) {
    LayoutEntry entry;
    FEDWATT_ASSIGN_OR_RETURN(entry.name, GetString(in, "entry name", 255));
    FEDWATT_ASSIGN_OR_RETURN(entry.shape, GetShape(in, "entry shape"));
    FEDWATT_ASSIGN_OR_RETURN(const uint8_t kind, in.Get<uint8_t>("entry kind"));
    FEDWATT_ASSIGN_OR_RETURN(const uint8_t dtype, in.Get<uint8_t>("entry dtype"));
    if (kind < 1 || kind > 3 || dtype < 1 || dtype > 2) return absl::DataLossError("trainer protocol: unknown entry kind or dtype");
    entry.kind = static_cast<EntryKind>(kind);
    entry.dtype = static_cast<Dtype>(dtype);
    entries.push_back(std::move(entry));
  }
  return ParameterLayout::Create(std::move(entries));
}

void PutDataset(ByteWriter& out, const Dataset& data) {
  const ExampleStore& store = data.store();
  PutShape(out, store.input_shape);
  out.Put<uint8_t>(store.inputs.index());
  std::visit([&](const auto& inputs) { PutVector(out, Rows(inputs, data.indices(), store.input_size())); }, store.inputs);
  PutVector(out, store.scale);
  PutVector(out, store.shift);
  PutVector(out, Rows(store.labels, data.indices(), 1));
  PutVector(out, Rows(store.regression_targets, data.indices(), store.output_count));
  out.Put<int64_t>(store.output_count);
}

absl::StatusOr<Dataset> GetDataset(ByteReader& in) {
  ExampleStore store;
  FEDWATT_ASSIGN_OR_RETURN(store.input_shape, GetShape(in, "input shape"));
  FEDWATT_ASSIGN_OR_RETURN(const uint8_t type, in.Get<uint8_t>("input type"));
  switch (type) {
    case 0: {
      FEDWATT_ASSIGN_OR_RETURN(store.inputs, GetVector<uint8_t>(in, "inputs"));
      break;
    }
    case 1: {
      FEDWATT_ASSIGN_OR_RETURN(store.inputs, GetVector<float>(in, "inputs"));
      break;
    }
    case 2: {
      FEDWATT_ASSIGN_OR_RETURN(store.inputs, GetVector<int32_t>(in, "inputs"));
      break;
    }
    default:
      return absl::DataLossError(absl::StrCat("trainer protocol: unknown input type ", type));
  }
  FEDWATT_ASSIGN_OR_RETURN(store.scale, GetVector<float>(in, "scale"));
  FEDWATT_ASSIGN_OR_RETURN(store.shift, GetVector<float>(in, "shift"));
  FEDWATT_ASSIGN_OR_RETURN(store.labels, GetVector<int32_t>(in, "labels"));
  FEDWATT_ASSIGN_OR_RETURN(store.regression_targets, GetVector<float>(in, "regression targets"));
  FEDWATT_ASSIGN_OR_RETURN(store.output_count, in.Get<int64_t>("output count"));
  return Dataset::Create(std::move(store));
}

void PutKept(ByteWriter& out, const KeptChannels& kept) {
  out.Put<uint64_t>(kept.size());
  for (const auto& [group, ranges] : kept) {
    PutString(out, group);
    out.Put<uint64_t>(ranges.size());
    for (const ChannelRange& range : ranges) {
      out.Put(range.begin);
      out.Put(range.end);
    }
  }
}

// Counts reserve nothing, so that a hostile one ends where the bytes do.
absl::StatusOr<KeptChannels> GetKept(ByteReader& in) {
  KeptChannels kept;
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t count, in.Get<uint64_t>("kept groups"));
  for (uint64_t i = 0; i < count; ++i) {
    FEDWATT_ASSIGN_OR_RETURN(std::string group, GetString(in, "group", kMaxMessageBytes));
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t range_count, in.Get<uint64_t>("ranges"));
    // A group without ranges stays in: whoever cuts refuses it.
    const auto [at, added] = kept.try_emplace(std::move(group));
    if (!added) return absl::DataLossError("trainer protocol: a group is kept twice");
    for (uint64_t r = 0; r < range_count; ++r) {
      ChannelRange range;
      FEDWATT_ASSIGN_OR_RETURN(range.begin, in.Get<int64_t>("range"));
      FEDWATT_ASSIGN_OR_RETURN(range.end, in.Get<int64_t>("range"));
      at->second.push_back(range);
    }
  }
  return kept;
}

void PutGroups(ByteWriter& out, const std::vector<ChannelGroup>& groups) {
  out.Put<uint64_t>(groups.size());
  for (const ChannelGroup& group : groups) {
    PutString(out, group.name);
    out.Put(group.size);
    out.Put<uint64_t>(group.axes.size());
    for (const ChannelAxis& axis : group.axes) {
      PutString(out, axis.entry);
      out.Put(axis.axis);
      for (const int64_t number : {axis.repeat, axis.blocks, axis.begin}) out.Put(number);
      out.Put<uint8_t>(axis.reads);
    }
  }
}

absl::StatusOr<std::vector<ChannelGroup>> GetGroups(ByteReader& in) {
  std::vector<ChannelGroup> groups;
  std::set<std::string> names;
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t group_count, in.Get<uint64_t>("groups"));
  for (uint64_t i = 0; i < group_count; ++i) {
    ChannelGroup group;
    FEDWATT_ASSIGN_OR_RETURN(group.name, GetString(in, "group", kMaxMessageBytes));
    FEDWATT_ASSIGN_OR_RETURN(group.size, in.Get<int64_t>("group size"));
    if (!names.insert(group.name).second || group.name.empty() || group.size < 1 || group.size > ParameterLayout::kMaxValueCount) {
      return absl::DataLossError("trainer protocol: a channel group without a name of its own, or of a size out of range");
    }
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t axis_count, in.Get<uint64_t>("axes"));
    for (uint64_t a = 0; a < axis_count; ++a) {
      ChannelAxis axis;
      FEDWATT_ASSIGN_OR_RETURN(axis.entry, GetString(in, "entry", kMaxMessageBytes));
      FEDWATT_ASSIGN_OR_RETURN(axis.axis, in.Get<int32_t>("axis"));
      FEDWATT_ASSIGN_OR_RETURN(axis.repeat, in.Get<int64_t>("repeat"));
      FEDWATT_ASSIGN_OR_RETURN(axis.blocks, in.Get<int64_t>("blocks"));
      FEDWATT_ASSIGN_OR_RETURN(axis.begin, in.Get<int64_t>("begin"));
      FEDWATT_ASSIGN_OR_RETURN(const uint8_t reads, in.Get<uint8_t>("reads"));
      axis.reads = reads != 0;
      group.axes.push_back(std::move(axis));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

void PutArchiveChannels(ByteWriter& out, const ArchiveChannels& channels) {
  PutGroups(out, channels.groups);
  out.Put<uint64_t>(channels.whole.size());
  for (const WholeChannels& whole : channels.whole) {
    PutString(out, whole.name);
    out.Put(whole.size);
    PutString(out, whole.reason);
  }
  PutVector(out, channels.uses);
}

absl::StatusOr<ArchiveChannels> GetArchiveChannels(ByteReader& in) {
  ArchiveChannels channels;
  FEDWATT_ASSIGN_OR_RETURN(channels.groups, GetGroups(in));
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t whole_count, in.Get<uint64_t>("whole channels"));
  for (uint64_t i = 0; i < whole_count; ++i) {
    WholeChannels whole;
    FEDWATT_ASSIGN_OR_RETURN(whole.name, GetString(in, "name", kMaxMessageBytes));
    FEDWATT_ASSIGN_OR_RETURN(whole.size, in.Get<int64_t>("size"));
    FEDWATT_ASSIGN_OR_RETURN(whole.reason, GetString(in, "reason", kMaxMessageBytes));
    channels.whole.push_back(std::move(whole));
  }
  FEDWATT_ASSIGN_OR_RETURN(channels.uses, GetVector<double>(in, "uses"));
  return channels;
}

void PutRecipe(ByteWriter& out, const TrainingRecipe& recipe) {
  out.Put(recipe.local_epochs);
  out.Put(recipe.local_steps);
  out.Put(recipe.batch_size);
  out.Put(recipe.client_learning_rate);
  out.Put(recipe.momentum);
  out.Put(recipe.weight_decay);
  out.Put(recipe.proximal_mu);
  out.Put(recipe.threads);
  PutString(out, recipe.loss);
}

absl::StatusOr<TrainingRecipe> GetRecipe(ByteReader& in) {
  TrainingRecipe recipe;
  FEDWATT_ASSIGN_OR_RETURN(recipe.local_epochs, in.Get<int32_t>("local_epochs"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.local_steps, in.Get<int32_t>("local_steps"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.batch_size, in.Get<int32_t>("batch_size"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.client_learning_rate, in.Get<double>("client_learning_rate"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.momentum, in.Get<double>("momentum"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.weight_decay, in.Get<double>("weight_decay"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.proximal_mu, in.Get<double>("proximal_mu"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.threads, in.Get<int32_t>("threads"));
  FEDWATT_ASSIGN_OR_RETURN(recipe.loss, GetString(in, "loss", kMaxMessageBytes));
  return recipe;
}

void PutProfile(ByteWriter& out, const ModelProfile& profile) {
  out.Put(profile.output_count);
  out.Put<uint64_t>(profile.operators.size());
  for (const OperatorProfile& run : profile.operators) {
    PutString(out, run.name);
    out.Put<uint64_t>(run.entries.size());
    for (const std::string& entry : run.entries) PutString(out, entry);
    PutShape(out, run.output_shape);
    out.Put(run.macs);
    out.Put(run.activation_bytes);
  }
}

// Counts reserve nothing: what is not there ends the loop.
absl::StatusOr<ModelProfile> GetProfile(ByteReader& in) {
  ModelProfile profile;
  FEDWATT_ASSIGN_OR_RETURN(profile.output_count, in.Get<int64_t>("output count"));
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t count, in.Get<uint64_t>("operators"));
  for (uint64_t i = 0; i < count; ++i) {
    OperatorProfile run;
    FEDWATT_ASSIGN_OR_RETURN(run.name, GetString(in, "operator", kMaxMessageBytes));
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t entries, in.Get<uint64_t>("entries"));
    for (uint64_t e = 0; e < entries; ++e) {
      FEDWATT_ASSIGN_OR_RETURN(std::string entry, GetString(in, "entry", 255));
      run.entries.push_back(std::move(entry));
    }
    FEDWATT_ASSIGN_OR_RETURN(run.output_shape, GetShape(in, "output shape"));
    FEDWATT_ASSIGN_OR_RETURN(run.macs, in.Get<double>("multiply-adds"));
    FEDWATT_ASSIGN_OR_RETURN(run.activation_bytes, in.Get<int64_t>("activation bytes"));
    // The negation refuses NaN.
    if (!(run.macs >= 0 && run.macs < 1e18) || run.activation_bytes < 0 || run.activation_bytes > int64_t{1} << 50) {
      return absl::DataLossError("trainer protocol: an operator's cost out of range");
    }
    profile.operators.push_back(std::move(run));
  }
  if (profile.output_count < 1 || profile.output_count > ParameterLayout::kMaxValueCount) return absl::DataLossError("trainer protocol: output count out of range");
  return profile;
}

void PutWalls(ByteWriter& out, const SandboxWalls& walls) {
  out.Put<uint8_t>(walls.system_calls);
  out.Put<int32_t>(walls.landlock_abi);
}

absl::StatusOr<SandboxWalls> GetWalls(ByteReader& in) {
  SandboxWalls walls;
  FEDWATT_ASSIGN_OR_RETURN(const uint8_t system_calls, in.Get<uint8_t>("system calls"));
  walls.system_calls = system_calls != 0;
  FEDWATT_ASSIGN_OR_RETURN(walls.landlock_abi, in.Get<int32_t>("Landlock"));
  return walls;
}

absl::Status ExpectEnd(const ByteReader& in, std::string_view what) {
  if (in.remaining() == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("trainer protocol: ", in.remaining(), " bytes too many after ", std::string(what)));
}

std::string EncodeError(const absl::Status& status) {
  ByteWriter out;
  out.Put<uint32_t>(static_cast<uint32_t>(status.code()));
  const absl::string_view message = status.message();
  PutString(out, std::string_view(message.data(), std::min(message.size(), kMaxMessageBytes)));
  return std::move(out).str();
}

absl::Status DecodeError(std::string_view payload) {
  ByteReader in(payload, "trainer error");
  FEDWATT_ASSIGN_OR_RETURN(const uint32_t code, in.Get<uint32_t>("code"));
  FEDWATT_ASSIGN_OR_RETURN(const std::string message, GetString(in, "message", kMaxMessageBytes));
  FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "error"));
  if (code < 1 || code > 16) return absl::DataLossError(absl::StrCat("trainer protocol: status code ", code));
  return absl::Status(static_cast<absl::StatusCode>(code), message);
}

}  // namespace fedwatt::internal
