// CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3 x 32 x 32 bytes, planes red, green, blue.
#include <filesystem>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/reader.h"
#include "reading.h"

namespace fedwatt {
namespace {

constexpr int64_t kPixels = 3 * 32 * 32;
constexpr int64_t kRecord = 1 + kPixels;
constexpr int kClasses = 10;

absl::Status AppendFile(const std::string& path, ExampleStore& store) {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return absl::NotFoundError(absl::StrCat(path, ": ", error.message()));
  if (bytes == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": zero examples"));
  if (bytes % kRecord != 0) {
    return absl::DataLossError(absl::StrCat(path, ": ", bytes, " bytes are not whole records of ", kRecord,
                                            " bytes; cut at byte ", bytes - bytes % kRecord));
  }
  FEDWATT_ASSIGN_OR_RETURN(internal::InputFile file, internal::InputFile::Open(path));
  auto& inputs = std::get<std::vector<uint8_t>>(store.inputs);
  std::vector<uint8_t> label;
  inputs.reserve(inputs.size() + bytes / kRecord * kPixels);
  for (int64_t at = 0; at < bytes; at += kRecord) {
    label.clear();
    FEDWATT_RETURN_IF_ERROR(file.Read(1, label));
    if (label[0] >= kClasses) {
      return absl::DataLossError(
          absl::StrCat(path, ": at byte ", at, ": expected a label in [0, ", kClasses, "), got ", label[0]));
    }
    store.labels.push_back(label[0]);
    FEDWATT_RETURN_IF_ERROR(file.Read(kPixels, inputs));
  }
  return file.ExpectEnd();
}

// `path` is a file of records, or a folder that holds `names`.
absl::StatusOr<ExampleStore> ReadPart(const std::string& path, const std::vector<std::string>& names) {
  ExampleStore store;
  store.input_shape = {3, 32, 32};
  store.inputs = std::vector<uint8_t>();
  store.output_count = kClasses;
  if (!internal::IsFolder(path)) {
    FEDWATT_RETURN_IF_ERROR(AppendFile(path, store));
    return store;
  }
  for (const std::string& name : names) FEDWATT_RETURN_IF_ERROR(AppendFile((std::filesystem::path(path) / name).string(), store));
  return store;
}

absl::StatusOr<DataSplit> ReadCifar10(const DataOptions& options) {
  if (options.test_path.empty() && !internal::IsFolder(options.path) && std::filesystem::exists(options.path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("data: ", options.path, " is a file of training records; set data.test_path as well"));
  }
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore train, ReadPart(options.path, {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                                       "data_batch_4.bin", "data_batch_5.bin"}));
  FEDWATT_ASSIGN_OR_RETURN(ExampleStore test,
                           ReadPart(options.test_path.empty() ? options.path : options.test_path, {"test_batch.bin"}));
  internal::Normalize(options, train, test);
  return internal::MakeSplit(std::move(train), std::move(test));
}

}  // namespace

namespace internal {
void InstallReader_cifar10(ReaderRegistry& registry) { FEDWATT_CHECK(registry.Register("cifar10", ReadCifar10).ok()); }
}  // namespace internal
}  // namespace fedwatt
