// What a process and its fedwatt-trainer child say to each other over one socket pair. Both belong to one build, so there is no
// version; but the child runs foreign code, so nothing it says is believed unchecked.
//
// A frame is kind (u32), payload length (u64), payload; numbers are little-endian. The parent asks, the child answers each question once;
// while it trains or looks for channels it also sends kProgress, and the parent may send kStop, which has no answer of its own. An answer is the
// question's or kError. When the parent's end closes, the child exits. The first question is kConfine: the child has entered its sandbox before it
// sees a byte of an archive.
#ifndef FEDWATT_MODEL_TORCHSCRIPT_PROTOCOL_H_
#define FEDWATT_MODEL_TORCHSCRIPT_PROTOCOL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/sandbox.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/profile.h"
#include "fedwatt/model/torchscript/archive_channels.h"

namespace fedwatt::internal {

enum class FrameKind : uint32_t {
  kLoad = 1,        // spec, archive bytes, kept channels -> kLoaded: layout, initial values; where channels are kept also whole layout, groups
  kAddData = 2,     // id (u64), examples -> kDone
  kForgetData = 3,  // id (u64) -> kDone
  kTrain = 4,       // id, seed (u64 each), recipe, values -> kTrained: result, values
  kStop = 5,        // nothing
  kEvaluate = 6,    // id (u64), loss name, values -> kEvaluated: result
  kSave = 7,        // values -> kSaved: archive bytes
  kFindChannels = 8,  // nothing -> kFoundChannels: groups, what stays whole, uses
  kProfile = 9,     // nothing -> kProfiled: profile
  kConfine = 10,    // memory_bytes (i64) -> kConfined: walls
  kLoaded = 101,
  kDone = 102,
  kTrained = 104,
  kProgress = 105,
  kEvaluated = 106,
  kSaved = 107,
  kFoundChannels = 108,
  kProfiled = 109,
  kConfined = 110,
  kError = 199,  // status code (u32), message
};

struct Frame {
  FrameKind kind = FrameKind::kError;
  std::string payload;
};

// The file descriptor at which the child finds its end.
inline constexpr int kTrainerFd = 3;
inline constexpr uint64_t kMaxFrameBytes = uint64_t{1} << 33;
inline constexpr size_t kMaxMessageBytes = 1 << 16;  // of an error

// Waits until `fd` can be read or written (`events` as in poll); an error ends the transfer. Empty: block.
using FrameWaiter = std::function<absl::Status(short events)>;

// Errors: UNAVAILABLE  the other end is gone; RESOURCE_EXHAUSTED  a payload beyond max_bytes; whatever `wait` returns.
// A hostile length allocates no more than has arrived.
absl::Status WriteFrame(int fd, FrameKind kind, std::string_view payload, const FrameWaiter& wait = {});
absl::StatusOr<Frame> ReadFrame(int fd, uint64_t max_bytes, const FrameWaiter& wait = {});

// Reading refuses what is cut short, too long or out of range: DATA_LOSS or INVALID_ARGUMENT.
void PutString(ByteWriter& out, std::string_view text);
absl::StatusOr<std::string> GetString(ByteReader& in, std::string_view field, size_t max_bytes);
void PutShape(ByteWriter& out, const std::vector<int64_t>& shape);
absl::StatusOr<std::vector<int64_t>> GetShape(ByteReader& in, std::string_view field);
void PutValues(ByteWriter& out, absl::Span<const float> values);
absl::StatusOr<std::vector<float>> GetValues(ByteReader& in, std::string_view field);
void PutLayout(ByteWriter& out, const ParameterLayout& layout);
absl::StatusOr<ParameterLayout> GetLayout(ByteReader& in);
// The examples of the dataset alone, in the type in which they are stored.
void PutDataset(ByteWriter& out, const Dataset& data);
absl::StatusOr<Dataset> GetDataset(ByteReader& in);
void PutKept(ByteWriter& out, const KeptChannels& kept);
absl::StatusOr<KeptChannels> GetKept(ByteReader& in);
void PutGroups(ByteWriter& out, const std::vector<ChannelGroup>& groups);
absl::StatusOr<std::vector<ChannelGroup>> GetGroups(ByteReader& in);
void PutArchiveChannels(ByteWriter& out, const ArchiveChannels& channels);
absl::StatusOr<ArchiveChannels> GetArchiveChannels(ByteReader& in);
void PutRecipe(ByteWriter& out, const TrainingRecipe& recipe);
absl::StatusOr<TrainingRecipe> GetRecipe(ByteReader& in);
void PutProfile(ByteWriter& out, const ModelProfile& profile);
absl::StatusOr<ModelProfile> GetProfile(ByteReader& in);
void PutWalls(ByteWriter& out, const SandboxWalls& walls);
absl::StatusOr<SandboxWalls> GetWalls(ByteReader& in);
absl::Status ExpectEnd(const ByteReader& in, std::string_view what);

std::string EncodeError(const absl::Status& status);
absl::Status DecodeError(std::string_view payload);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCHSCRIPT_PROTOCOL_H_
