// Next-character data. A character is one byte (UTF-8 takes several); the vocabulary is the sorted set of bytes in the training
// part.
//
// A play's layout makes natural groups: a line "NAME:" at the start of a block (after a blank line, or first in the file) says
// who speaks until the next such line; blocks of a speaker are joined by a newline, names are left out. Speakers are numbered by
// first appearance. A file without such lines is one stream without groups.
//
// An example is `sequence_length` characters with the one that follows as its label. Windows start every max(1, sequence_length /
// 8) characters and never cross speakers or parts; a speaker too short for one window is left out. Without a test file the last
// held_out_fraction of each speaker's characters is the test part. Test windows with a byte that the training part lacks are left
// out.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "absl/strings/ascii.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/reader.h"
#include "reading.h"

namespace fedwatt {
namespace {

constexpr size_t kMaxNameBytes = 64;

struct Streams {
  std::vector<std::string> texts;  // one a speaker
  bool grouped = false;
};

absl::StatusOr<std::string> ReadText(const std::string& path) {
  if (!internal::IsFolder(path)) return ReadFile(path);
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path().string());
  }
  if (error) return absl::UnavailableError(absl::StrCat(path, ": ", error.message()));
  if (files.empty()) return absl::NotFoundError(absl::StrCat(path, "/*.txt: no such file"));
  std::sort(files.begin(), files.end());
  std::string text;
  for (const std::string& file : files) {
    FEDWATT_ASSIGN_OR_RETURN(const std::string one, ReadFile(file));
    // A blank line between files lets a speaker's name open the next one.
    if (!text.empty()) text += text.back() == '\n' ? "\n" : "\n\n";
    text += one;
  }
  return text;
}

// The name in "NAME:", or "".
std::string_view SpeakerOf(std::string_view line) {
  if (line.size() < 2 || line.size() > kMaxNameBytes || line.back() != ':') return "";
  line.remove_suffix(1);
  return line.find(':') == std::string_view::npos ? line : "";
}

Streams SplitSpeakers(const std::string& text) {
  Streams streams;
  std::map<std::string, size_t, std::less<>> index_of;
  size_t current = std::string::npos;
  bool after_blank = true;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    at = end + 1;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const std::string_view speaker = after_blank ? SpeakerOf(line) : "";
    after_blank = line.empty();
    if (!speaker.empty()) {
      const auto [it, added] = index_of.emplace(speaker, streams.texts.size());
      if (added) streams.texts.emplace_back();
      current = it->second;
    } else if (!line.empty()) {
      if (current == std::string::npos) {  // words before the first name: a speaker without one
        current = streams.texts.size();
        streams.texts.emplace_back();
      }
      absl::StrAppend(&streams.texts[current], std::string(line), "\n");
    }
  }
  streams.grouped = !index_of.empty();
  if (!streams.grouped) streams.texts = {text};
  return streams;
}

// Appends the windows of `text`; returns how many.
int64_t AppendWindows(std::string_view text, int64_t length, const std::array<int32_t, 256>& token_of, ExampleStore& store) {
  auto& tokens = std::get<std::vector<int32_t>>(store.inputs);
  const size_t stride = static_cast<size_t>(std::max<int64_t>(1, length / 8));
  int64_t count = 0;
  for (size_t begin = 0; begin + length < text.size(); begin += stride) {
    const std::string_view window = text.substr(begin, length + 1);
    const auto token = [&](char c) { return token_of[static_cast<uint8_t>(c)]; };
    if (std::any_of(window.begin(), window.end(), [&](char c) { return token(c) < 0; })) continue;
    for (size_t i = 0; i + 1 < window.size(); ++i) tokens.push_back(token(window[i]));
    store.labels.push_back(token(window.back()));
    ++count;
  }
  return count;
}

absl::StatusOr<DataSplit> ReadTextData(const DataOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadText(options.path));
  Streams train_streams = SplitSpeakers(text);
  Streams test_streams;
  if (!options.test_path.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(const std::string test_text, ReadText(options.test_path));
    test_streams = SplitSpeakers(test_text);
  } else {
    for (std::string& stream : train_streams.texts) {
      if (stream.size() < 2) continue;
      const int64_t held_out = internal::HeldOutCount(static_cast<int64_t>(stream.size()), options.held_out_fraction);
      test_streams.texts.push_back(stream.substr(stream.size() - held_out));
      stream.resize(stream.size() - held_out);
    }
  }

  std::array<int32_t, 256> token_of;
  token_of.fill(-1);
  for (const std::string& stream : train_streams.texts) {
    for (char c : stream) token_of[static_cast<uint8_t>(c)] = 0;
  }
  int32_t vocabulary = 0;
  for (int32_t& token : token_of) {
    if (token == 0) token = vocabulary++;
  }

  ExampleStore train;
  ExampleStore test;
  for (ExampleStore* store : {&train, &test}) {
    store->input_shape = {options.sequence_length};
    store->inputs = std::vector<int32_t>();
    store->output_count = vocabulary;
  }
  int32_t group = 0;
  for (const std::string& stream : train_streams.texts) {
    const int64_t count = AppendWindows(stream, options.sequence_length, token_of, train);
    if (train_streams.grouped && count > 0) train.natural_groups.insert(train.natural_groups.end(), count, group++);
  }
  for (const std::string& stream : test_streams.texts) AppendWindows(stream, options.sequence_length, token_of, test);
  for (const auto& [store, path] : {std::pair(&train, &options.path), std::pair(&test, &options.test_path)}) {
    if (store->labels.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path->empty() ? options.path : *path, ": zero examples: the ",
                                                     store == &train ? "training" : "test", " part has no run of ",
                                                     options.sequence_length + 1, " characters; lower data.sequence_length"));
    }
  }
  return internal::MakeSplit(std::move(train), std::move(test));
}

}  // namespace

namespace internal {
void InstallReader_text(ReaderRegistry& registry) { FEDWATT_CHECK(registry.Register("text", ReadTextData).ok()); }
}  // namespace internal
}  // namespace fedwatt
