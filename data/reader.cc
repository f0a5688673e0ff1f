#include "fedwatt/data/reader.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <filesystem>

#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "reading.h"

namespace fedwatt {
namespace internal {

void InstallReaders(ReaderRegistry& registry);

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  if (IsFolder(path)) return absl::InvalidArgumentError(absl::StrCat(path, ": expected a file, got a folder"));
  errno = 0;
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return ErrnoStatus(errno != 0 ? errno : ENOMEM, path);
  gzbuffer(file, 1 << 18);
  return InputFile(path, file);
}

InputFile::InputFile(InputFile&& other) noexcept : path_(std::move(other.path_)), file_(other.file_), offset_(other.offset_) {
  other.file_ = nullptr;
}

InputFile::~InputFile() {
  if (file_ != nullptr) gzclose_r(static_cast<gzFile>(file_));
}

absl::StatusOr<int> InputFile::ReadSome(uint8_t* out, unsigned count) {
  const gzFile file = static_cast<gzFile>(file_);
  const int got = gzread(file, out, count);
  int error = Z_OK;
  const char* message = gzerror(file, &error);
  if (got < 0 || (error != Z_OK && error != Z_STREAM_END)) {
    return absl::DataLossError(absl::StrCat(path_, ": damaged after byte ", offset_, ": ", message));
  }
  offset_ += got;
  return got;
}

absl::Status InputFile::Read(int64_t count, std::vector<uint8_t>& out) {
  constexpr int64_t kChunk = 64 << 20;
  while (count > 0) {
    const int64_t wanted = std::min(count, kChunk);
    const size_t begin = out.size();
    out.resize(begin + wanted);
    FEDWATT_ASSIGN_OR_RETURN(const int got, ReadSome(out.data() + begin, static_cast<unsigned>(wanted)));
    if (got < wanted) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset_, ", expected ", count - got, " more"));
    }
    count -= wanted;
  }
  return absl::OkStatus();
}

absl::Status InputFile::ExpectEnd() {
  uint8_t byte = 0;
  const int64_t end = offset_;
  FEDWATT_ASSIGN_OR_RETURN(const int got, ReadSome(&byte, 1));
  if (got != 0) return absl::DataLossError(absl::StrCat(path_, ": expected its end at byte ", end, ", but more bytes follow"));
  return absl::OkStatus();
}

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

namespace {

struct Moments {
  double mean = 0;
  double deviation = 1;  // 1 for a constant channel, which then becomes 0 everywhere
};

Moments FromSums(double count, double sum, double square_sum) {
  const double mean = sum / count;
  const double variance = square_sum / count - mean * mean;
  return {mean, variance > 1e-12 * (1 + mean * mean) ? std::sqrt(variance) : 1};
}

}  // namespace

void Normalize(const DataOptions& options, ExampleStore& train, ExampleStore& test) {
  const bool standard = options.normalization == "standard";
  const size_t channels = static_cast<size_t>(train.input_shape.at(0));
  const size_t channel_size = static_cast<size_t>(train.input_size()) / channels;
  if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&train.inputs)) {
    train.scale = {options.normalization == "unit" ? 1.0f / 255.0f : 1.0f};
    train.shift = {0.0f};
    if (standard) {
      // Counting values keeps the sums exact.
      std::vector<std::array<int64_t, 256>> counts(channels);
      for (size_t i = 0; i < bytes->size();) {
        for (size_t channel = 0; channel < channels; ++channel) {
          std::array<int64_t, 256>& histogram = counts[channel];
          for (size_t end = i + channel_size; i < end; ++i) ++histogram[(*bytes)[i]];
        }
      }
      train.scale.clear();
      train.shift.clear();
      for (const std::array<int64_t, 256>& histogram : counts) {
        double count = 0, sum = 0, square_sum = 0;
        for (int value = 0; value < 256; ++value) {
          const double weight = static_cast<double>(histogram[value]);
          count += weight;
          sum += weight * value;
          square_sum += weight * value * value;
        }
        const Moments moments = FromSums(count, sum, square_sum);
        train.scale.push_back(static_cast<float>(1 / moments.deviation));
        train.shift.push_back(static_cast<float>(-moments.mean / moments.deviation));
      }
    }
    test.scale = train.scale;
    test.shift = train.shift;
  } else if (auto* floats = std::get_if<std::vector<float>>(&train.inputs); floats && standard) {
    auto& test_floats = std::get<std::vector<float>>(test.inputs);
    const size_t stride = channels * channel_size;
    for (size_t channel = 0; channel < channels; ++channel) {
      const auto each = [&](std::vector<float>& values, auto&& visit) {
        for (size_t base = channel * channel_size; base < values.size(); base += stride) {
          for (size_t i = base; i < base + channel_size; ++i) visit(values[i]);
        }
      };
      // Two passes: a large mean would eat the digits of the squares.
      double count = 0, sum = 0, square_sum = 0;
      each(*floats, [&](float value) {
        ++count;
        sum += value;
      });
      const double mean = sum / count;
      each(*floats, [&](float value) { square_sum += (value - mean) * (value - mean); });
      const double deviation = square_sum > 0 ? std::sqrt(square_sum / count) : 1;
      const auto apply = [&](float& value) { value = static_cast<float>((value - mean) / deviation); };
      each(*floats, apply);
      each(test_floats, apply);
    }
  }
}

absl::StatusOr<DataSplit> MakeSplit(ExampleStore train, ExampleStore test) {
  DataSplit split;
  absl::StatusOr<Dataset> part = Dataset::Create(std::move(train));
  if (!part.ok()) return Annotate(part.status(), "training data");
  split.train = *std::move(part);
  part = Dataset::Create(std::move(test));
  if (!part.ok()) return Annotate(part.status(), "test data");
  split.test = *std::move(part);
  return split;
}

int64_t HeldOutCount(int64_t count, double fraction) {
  return std::clamp<int64_t>(std::llround(static_cast<double>(count) * fraction), 1, count - 1);
}

}  // namespace internal

ReaderRegistry& Readers() {
  static auto* registry = [] {
    auto* made = new ReaderRegistry("data format");
    internal::InstallReaders(*made);
    return made;
  }();
  return *registry;
}

absl::StatusOr<DataSplit> ReadData(const DataOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const auto read, Readers().Find(options.format));
  const auto refuse = [](std::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat("data: ", std::string(problem)));
  };
  const bool generated = options.format == "associative_recall";
  if (options.path.empty() != generated) return refuse(generated ? "path is set, but associative_recall reads no file" : "path is empty; set data.path");
  if (!(options.held_out_fraction > 0 && options.held_out_fraction < 1)) {
    return refuse(absl::StrCat("held_out_fraction: expected (0, 1), got ", options.held_out_fraction));
  }
  if (options.normalization != "unit" && options.normalization != "standard" && options.normalization != "none") {
    return refuse(absl::StrCat("normalization: expected unit, standard or none, got '", options.normalization, "'"));
  }
  if (options.sequence_length < 1)
    return refuse(absl::StrCat("sequence_length: expected at least 1, got ", options.sequence_length));
  if (options.regression && options.format != "csv") return refuse("regression: only csv data has numbers to predict");
  return read(options);
}

}  // namespace fedwatt
