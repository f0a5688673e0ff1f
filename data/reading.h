// What the readers share; private to the room.
#ifndef FEDWATT_DATA_READING_H_
#define FEDWATT_DATA_READING_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/data/reader.h"

namespace fedwatt::internal {

// A file's bytes in order, unpacked when it is gzip. Owned by one thread.
class InputFile {
 public:
  // Errors: NOT_FOUND; PERMISSION_DENIED; UNAVAILABLE
  static absl::StatusOr<InputFile> Open(const std::string& path);
  InputFile(InputFile&& other) noexcept;
  ~InputFile();

  // Appends exactly `count` bytes to `out`, which grows only as the file yields them.
  // Errors: DATA_LOSS  the file ends before (named, with the offset), or its gzip stream is damaged
  absl::Status Read(int64_t count, std::vector<uint8_t>& out);
  // Errors: DATA_LOSS  bytes are left
  absl::Status ExpectEnd();

  const std::string& path() const { return path_; }

 private:
  InputFile(std::string path, void* file) : path_(std::move(path)), file_(file) {}
  absl::StatusOr<int> ReadSome(uint8_t* out, unsigned count);

  std::string path_;
  void* file_;  // gzFile; a null one is nobody's
  int64_t offset_ = 0;
};

bool IsFolder(const std::string& path);

// Sets scale and shift of both stores as options.normalization says, from the training bytes; floats (first dimension = channel)
// are changed in place by "standard" and stay as they are otherwise.
void Normalize(const DataOptions& options, ExampleStore& train, ExampleStore& test);

// Moves both stores into datasets, naming the part in errors.
absl::StatusOr<DataSplit> MakeSplit(ExampleStore train, ExampleStore test);

// How many of `count` >= 2 examples to hold out: the fraction, rounded, but never none and never all.
int64_t HeldOutCount(int64_t count, double fraction);

}  // namespace fedwatt::internal

#endif  // FEDWATT_DATA_READING_H_
