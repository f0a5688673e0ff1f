// Files into datasets. One file each under data/readers/.
#ifndef FEDWATT_DATA_READER_H_
#define FEDWATT_DATA_READER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/dataset.h"

namespace fedwatt {

struct DataOptions {
  std::string format = "idx";      // associative_recall, cifar10, csv, idx, text
  // idx: a folder with {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]. cifar10: a folder with data_batch_1..5.bin and test_batch.bin.
  // associative_recall: empty, since it is generated. csv: a file; last column is the label, first row may be a header. text: a file (or a folder of *.txt, joined in name order).
  std::string path;
  std::string test_path;           // "" = the format's own test part; csv and text without one: held_out_fraction
  double held_out_fraction = 0.1;  // (0, 1)
  // "unit": bytes / 255. "standard": (x - mean) / deviation per channel, of the training part. "none": as they are.
  std::string normalization = "unit";
  int64_t sequence_length = 80;    // text, associative_recall: tokens per example
  int64_t examples = 10000;        // associative_recall: of both parts together, >= 2
  uint64_t seed = 0;               // associative_recall
  bool regression = false;         // csv: the last column is a number, not a class
};

struct DataSplit {
  Dataset train;
  Dataset test;
};

// Reads both parts; natural groups are filled where the format has them (text: the speaker of each line "NAME:").
// Errors: NOT_FOUND  a file is missing (named); DATA_LOSS  damaged (named, with the offset); INVALID_ARGUMENT  bad options, zero examples
absl::StatusOr<DataSplit> ReadData(const DataOptions& options);

using ReaderRegistry = Registry<std::function<absl::StatusOr<DataSplit>(const DataOptions&)>>;
ReaderRegistry& Readers();

}  // namespace fedwatt

#endif  // FEDWATT_DATA_READER_H_
