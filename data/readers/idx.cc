// IDX (Y. LeCun's MNIST files, also Fashion-MNIST): big-endian header, then one byte a value. Plain or gzip.
#include <algorithm>
#include <filesystem>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/reader.h"
#include "reading.h"

namespace fedwatt {
namespace {

constexpr int64_t kMaxExamples = int64_t{1} << 31;
constexpr int64_t kMaxSide = 1 << 16;
constexpr int64_t kMaxBytes = int64_t{1} << 34;

struct IdxFile {
  std::vector<int64_t> dimensions;
  std::vector<uint8_t> values;
};

// `rank` dimensions of unsigned bytes; nothing may follow them.
absl::StatusOr<IdxFile> ReadIdx(const std::string& path, int rank) {
  FEDWATT_ASSIGN_OR_RETURN(internal::InputFile file, internal::InputFile::Open(path));
  std::vector<uint8_t> header;
  FEDWATT_RETURN_IF_ERROR(file.Read(4 + 4 * rank, header));
  if (header[0] != 0 || header[1] != 0 || header[2] != 8 || header[3] != rank) {
    return absl::DataLossError(absl::StrCat(path, ": at byte 0: expected magic 0 0 8 ", rank, " (IDX of unsigned bytes, rank ",
                                            rank, "), got ", header[0], " ", header[1], " ", header[2], " ", header[3]));
  }
  IdxFile idx;
  int64_t total = 1;
  for (int i = 0; i < rank; ++i) {
    const uint8_t* at = header.data() + 4 + 4 * i;
    const int64_t dimension = (int64_t{at[0]} << 24) | (int64_t{at[1]} << 16) | (int64_t{at[2]} << 8) | int64_t{at[3]};
    if (i == 0 && dimension == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": zero examples"));
    const int64_t most = i == 0 ? kMaxExamples - 1 : kMaxSide;
    if (dimension < 1 || dimension > most || total > kMaxBytes / dimension) {
      return absl::DataLossError(
          absl::StrCat(path, ": at byte ", 4 + 4 * i, ": dimension ", i, " = ", dimension, " is out of bounds"));
    }
    total *= dimension;
    idx.dimensions.push_back(dimension);
  }
  FEDWATT_RETURN_IF_ERROR(file.Read(total, idx.values));
  FEDWATT_RETURN_IF_ERROR(file.ExpectEnd());
  return idx;
}

absl::StatusOr<std::string> FindFile(const std::string& folder, const std::string& name) {
  for (const std::string& candidate : {name, name + ".gz"}) {
    const std::filesystem::path path = std::filesystem::path(folder) / candidate;
    std::error_code error;
    if (std::filesystem::exists(path, error)) return path.string();
  }
  return absl::NotFoundError(absl::StrCat(folder, "/", name, "[.gz]: no such file"));
}

absl::StatusOr<ExampleStore> ReadPart(const std::string& folder, const std::string& part) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string images_path, FindFile(folder, part + "-images-idx3-ubyte"));
  FEDWATT_ASSIGN_OR_RETURN(const std::string labels_path, FindFile(folder, part + "-labels-idx1-ubyte"));
  FEDWATT_ASSIGN_OR_RETURN(IdxFile images, ReadIdx(images_path, 3));
  FEDWATT_ASSIGN_OR_RETURN(const IdxFile labels, ReadIdx(labels_path, 1));
  if (images.dimensions[0] != labels.dimensions[0]) {
    return absl::DataLossError(
        absl::StrCat(labels_path, ": expected ", images.dimensions[0], " labels, one per image, got ", labels.dimensions[0]));
  }
  ExampleStore store;
  store.input_shape = {1, images.dimensions[1], images.dimensions[2]};
  store.inputs = std::move(images.values);
  store.labels.assign(labels.values.begin(), labels.values.end());
  return store;
}

absl::StatusOr<DataSplit> ReadIdxData(const DataOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore train, ReadPart(options.path, "train"));
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore test, ReadPart(options.test_path.empty() ? options.path : options.test_path, "t10k"));
  if (train.input_shape != test.input_shape) {
    return absl::InvalidArgumentError(absl::StrCat(options.path, ": training images are ", absl::StrJoin(train.input_shape, "x"),
                                                   ", test images ", absl::StrJoin(test.input_shape, "x")));
  }
  train.output_count = test.output_count = *std::max_element(train.labels.begin(), train.labels.end()) + 1;
  internal::Normalize(options, train, test);
  return internal::MakeSplit(std::move(train), std::move(test));
}

}  // namespace

namespace internal {
void InstallReader_idx(ReaderRegistry& registry) { FEDWATT_CHECK(registry.Register("idx", ReadIdxData).ok()); }
}  // namespace internal
}  // namespace fedwatt
