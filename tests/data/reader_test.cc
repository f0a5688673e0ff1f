#include "fedwatt/data/reader.h"

#include <zlib.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "fedwatt/base/clock.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AssociativeRecallTest, EveryLabelIsTheValueThatFollowedTheKeyThatIsAsked) {
  DataOptions options{.format = "associative_recall", .held_out_fraction = 0.25, .sequence_length = 64, .examples = 200, .seed = 5};
  ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadData(options));
  EXPECT_EQ(split.train.size(), 150);
  EXPECT_EQ(split.test.size(), 50);
  EXPECT_EQ(split.train.store().output_count, 33);
  double latest = 0, earliest = 64;
  for (const Dataset* part : {&split.train, &split.test}) {
    for (int64_t i = 0; i < part->size(); ++i) {
      std::vector<float> tokens(64);
      part->CopyInput(i, absl::MakeSpan(tokens));
      int keys = 0, found = 0;
      for (size_t at = 0; at + 1 < tokens.size(); ++at) {
        if (tokens[at] < 1 || tokens[at] > 16) continue;
        ++keys;
        EXPECT_GE(tokens[at + 1], 17);
        if (tokens[at] != tokens.back()) continue;
        ++found;
        EXPECT_EQ(part->label(i), static_cast<int32_t>(tokens[at + 1]));
        latest = std::max(latest, static_cast<double>(at));
        earliest = std::min(earliest, static_cast<double>(at));
      }
      EXPECT_EQ(keys, 8);
      EXPECT_EQ(found, 1) << "keys differ";
      EXPECT_EQ(std::count_if(tokens.begin(), tokens.end(), [](float token) { return token >= 17; }), 8);
    }
  }
  EXPECT_LT(earliest, 8);
  EXPECT_GT(latest, 55);
  ASSERT_OK_AND_ASSIGN(const DataSplit again, ReadData(options));
  EXPECT_EQ(again.train.store().inputs, split.train.store().inputs);
  options.seed = 6;
  ASSERT_OK_AND_ASSIGN(const DataSplit other, ReadData(options));
  EXPECT_NE(other.train.store().inputs, split.train.store().inputs);
  options.sequence_length = 17;  // no blank at all
  EXPECT_THAT(ReadData(options), IsOk());
}

TEST(AssociativeRecallTest, RefusesWhatItCannotGenerate) {
  const DataOptions good{.format = "associative_recall", .sequence_length = 32, .examples = 10};
  EXPECT_THAT(ReadData(good), IsOk());
  const auto refused = [](DataOptions options, const char* words) { EXPECT_THAT(ReadData(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words))); };
  DataOptions bad = good;
  bad.sequence_length = 16;
  refused(bad, "at least 17, got 16");
  bad = good;
  bad.examples = 1;
  refused(bad, "got 1 of 32");
  bad.examples = int64_t{1} << 60;
  refused(bad, "tokens in all");
  bad = good;
  bad.path = "x";
  refused(bad, "reads no file");
  bad = good;
  bad.test_path = "x";
  refused(bad, "reads no file");
}

class ReaderTest : public ::testing::Test {
 protected:
  ReaderTest() {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              absl::StrCat("reader_", ::testing::UnitTest::GetInstance()->current_test_info()->name(), "_", getpid());
    std::filesystem::create_directories(folder_);
  }
  ~ReaderTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  void WriteGzip(const std::string& name, const std::string& bytes) {
    gzFile file = gzopen((folder_ / name).c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
  }

  std::filesystem::path folder_;
};

std::string BigEndian(uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
std::string Idx(const std::vector<uint32_t>& dimensions, const std::string& values) {
  std::string out{0, 0, 8, static_cast<char>(dimensions.size())};
  for (uint32_t dimension : dimensions) out += BigEndian(dimension);
  return out + values;
}
std::vector<float> Input(const Dataset& data, int64_t i) {
  std::vector<float> out(data.store().input_size());
  data.CopyInput(i, absl::MakeSpan(out));
  return out;
}

TEST(ReadersTest, NamesAndNearest) {
  EXPECT_THAT(Readers().Names(), ElementsAre("associative_recall", "cifar10", "csv", "idx", "text"));
  EXPECT_THAT(ReadData({.format = "cifar", .path = "x"}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("cifar10")));
}

TEST(ReadDataTest, RefusesBadOptions) {
  const auto refused = [](DataOptions options, const char* word) {
    EXPECT_THAT(ReadData(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(word)));
  };
  refused({}, "data.path");
  for (double fraction : {0.0, 1.0, -0.5, std::nan("")})
    refused({.path = "x", .held_out_fraction = fraction}, "held_out_fraction");
  refused({.path = "x", .normalization = "zscore"}, "normalization");
  refused({.path = "x", .sequence_length = 0}, "sequence_length");
  refused({.path = "x", .regression = true}, "regression");
}

class IdxReaderTest : public ReaderTest {
 protected:
  // Three 2x2 training images labelled 0, 2, 1 and one test image labelled 2.
  void WriteGood() {
    Write("train-images-idx3-ubyte", Idx({3, 2, 2}, std::string{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, '\xff'}));
    WriteGzip("train-labels-idx1-ubyte.gz", Idx({3}, std::string{0, 2, 1}));
    WriteGzip("t10k-images-idx3-ubyte.gz", Idx({1, 2, 2}, std::string{51, 0, 0, 0}));
    Write("t10k-labels-idx1-ubyte", Idx({1}, std::string{2}));
  }
  absl::StatusOr<DataSplit> Read(const std::string& normalization = "unit") {
    return ReadData({.format = "idx", .path = folder_, .normalization = normalization});
  }
};

TEST_F(IdxReaderTest, ReadsPlainAndGzip) {
  WriteGood();
  ASSERT_OK_AND_ASSIGN(const DataSplit split, Read());
  EXPECT_EQ(split.train.size(), 3);
  EXPECT_EQ(split.test.size(), 1);
  EXPECT_THAT(split.train.store().input_shape, ElementsAre(1, 2, 2));
  EXPECT_EQ(split.train.store().output_count, 3);
  EXPECT_TRUE(std::holds_alternative<std::vector<uint8_t>>(split.train.store().inputs));
  EXPECT_EQ(split.train.label(1), 2);
  EXPECT_FLOAT_EQ(Input(split.train, 2)[3], 1.0f);
  EXPECT_FLOAT_EQ(Input(split.test, 0)[0], 0.2f);
}

TEST_F(IdxReaderTest, Normalizes) {
  WriteGood();
  ASSERT_OK_AND_ASSIGN(const DataSplit none, Read("none"));
  EXPECT_THAT(Input(none.train, 1), ElementsAre(4, 5, 6, 7));
  ASSERT_OK_AND_ASSIGN(const DataSplit standard, Read("standard"));
  double sum = 0, square_sum = 0;
  for (int64_t i = 0; i < 3; ++i) {
    for (float value : Input(standard.train, i)) {
      sum += value;
      square_sum += value * value;
    }
  }
  EXPECT_NEAR(sum / 12, 0, 1e-6);
  EXPECT_NEAR(square_sum / 12, 1, 1e-5);
  // Mean 310/12, deviation sqrt(65410/12 - mean^2): the training part's, used for the test part too.
  const double mean = 310.0 / 12, deviation = std::sqrt((385 + 65025) / 12.0 - mean * mean);
  EXPECT_NEAR(Input(standard.test, 0)[0], (51 - mean) / deviation, 1e-5);
}

TEST_F(IdxReaderTest, StandardOfConstantImagesIsZero) {
  WriteGood();
  Write("train-images-idx3-ubyte", Idx({3, 2, 2}, std::string(12, 9)));
  ASSERT_OK_AND_ASSIGN(const DataSplit split, Read("standard"));
  EXPECT_THAT(Input(split.train, 0), ElementsAre(0, 0, 0, 0));
}

TEST_F(IdxReaderTest, NamesMissingFiles) {
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("train-images-idx3-ubyte")));
  WriteGood();
  std::filesystem::remove(folder_ / "t10k-labels-idx1-ubyte");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("t10k-labels-idx1-ubyte")));
}

TEST_F(IdxReaderTest, RefusesDamage) {
  const auto with_images = [&](const std::string& bytes) {
    WriteGood();
    Write("train-images-idx3-ubyte", bytes);
    return Read();
  };
  const auto damaged = [](const char* words) { return StatusIs(absl::StatusCode::kDataLoss, HasSubstr(words)); };
  EXPECT_THAT(with_images(""), damaged("ends at byte 0"));
  EXPECT_THAT(with_images(std::string{0, 0, 8}), damaged("ends at byte 3"));
  EXPECT_THAT(with_images(Idx({3, 4}, std::string(12, 0)) + std::string(4, 0)), damaged("magic"));
  EXPECT_THAT(with_images("GIF89a, not images at all"), damaged("magic"));
  EXPECT_THAT(with_images(Idx({3, 2, 2}, std::string(11, 0))), damaged("ends at byte 27, expected 1 more"));
  EXPECT_THAT(with_images(Idx({3, 2, 2}, std::string(13, 0))), damaged("expected its end at byte 28"));
  EXPECT_THAT(with_images(Idx({2, 2, 2}, std::string(8, 0))), damaged("expected 2 labels"));
  EXPECT_THAT(with_images(Idx({3, 0, 2}, "")), damaged("dimension 1 = 0"));
  // Sizes that would be terabytes are refused before anything is allocated.
  EXPECT_THAT(with_images(Idx({0x7fffffff, 65536, 65536}, "x")), damaged("out of bounds"));
  EXPECT_THAT(with_images(Idx({0xffffffff, 2, 2}, "x")), damaged("out of bounds"));
  EXPECT_THAT(with_images(Idx({3, 0xffffffff, 2}, "x")), damaged("out of bounds"));
  EXPECT_THAT(with_images(Idx({0, 2, 2}, "")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
}

TEST_F(IdxReaderTest, RefusesDamagedGzip) {
  WriteGood();
  const std::string path = folder_ / "train-labels-idx1-ubyte.gz";
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size - 9);  // the trailer and a byte of the data
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("train-labels-idx1-ubyte.gz")));
}

TEST_F(IdxReaderTest, RefusesPartsThatDoNotFit) {
  WriteGood();
  WriteGzip("t10k-images-idx3-ubyte.gz", Idx({1, 1, 4}, std::string(4, 0)));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1x1x4")));
  WriteGood();
  Write("t10k-labels-idx1-ubyte", Idx({1}, std::string{3}));  // a class that training never shows
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("test data")));
}

TEST(FashionMnistTest, LoadsWholeInUnderASecond) {
  const std::string path = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "package dataset-fashion-mnist is not installed";
  const absl::Duration start = RealClock().Monotonic();
  ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadData({.format = "idx", .path = path}));
  const absl::Duration took = RealClock().Monotonic() - start;
  RecordProperty("load_ms", absl::StrCat(absl::ToInt64Milliseconds(took)));
  EXPECT_LT(took, absl::Seconds(5));  // loose: a loaded machine must not fail the test; a quiet one takes about 0.3 s
  EXPECT_EQ(split.train.size(), 60000);
  EXPECT_EQ(split.test.size(), 10000);
  EXPECT_EQ(split.train.store().output_count, 10);
  std::vector<int> counts(10);
  for (int64_t i = 0; i < split.train.size(); ++i) ++counts[split.train.label(i)];
  EXPECT_THAT(counts, ::testing::Each(6000));
  ASSERT_OK_AND_ASSIGN(const DataSplit standard, ReadData({.format = "idx", .path = path, .normalization = "standard"}));
  // The published mean and deviation of the training images.
  EXPECT_NEAR(-standard.train.store().shift[0] / standard.train.store().scale[0] / 255, 0.2860, 1e-4);
  EXPECT_NEAR(1 / standard.train.store().scale[0] / 255, 0.3530, 1e-4);
}

class Cifar10ReaderTest : public ReaderTest {
 protected:
  static std::string Record(int label, char value) { return std::string(1, static_cast<char>(label)) + std::string(3072, value); }
  void WriteGood() {
    for (int i = 1; i <= 5; ++i) Write(absl::StrCat("data_batch_", i, ".bin"), Record(i, static_cast<char>(i)) + Record(0, 0));
    Write("test_batch.bin", Record(9, 100));
  }
  absl::StatusOr<DataSplit> Read() { return ReadData({.format = "cifar10", .path = folder_, .normalization = "none"}); }
};

TEST_F(Cifar10ReaderTest, ReadsAllBatchesInOrder) {
  WriteGood();
  ASSERT_OK_AND_ASSIGN(const DataSplit split, Read());
  EXPECT_EQ(split.train.size(), 10);
  EXPECT_EQ(split.test.size(), 1);
  EXPECT_THAT(split.train.store().input_shape, ElementsAre(3, 32, 32));
  EXPECT_EQ(split.train.store().output_count, 10);
  EXPECT_EQ(split.train.label(2), 2);
  EXPECT_EQ(Input(split.train, 8)[3071], 5.0f);
  EXPECT_EQ(split.test.label(0), 9);
}

TEST_F(Cifar10ReaderTest, StandardIsPerChannel) {
  WriteGood();
  const std::string planes = std::string(1024, 10) + std::string(1024, 20) + std::string(1024, 30);
  Write("data_batch_1.bin", std::string(1, 0) + planes);
  ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadData({.format = "cifar10",
                                                        .path = folder_ / "data_batch_1.bin",
                                                        .test_path = folder_ / "data_batch_1.bin",
                                                        .normalization = "standard"}));
  ASSERT_EQ(split.train.store().shift.size(), 3u);
  EXPECT_THAT(split.train.store().shift, ElementsAre(-10, -20, -30));
  EXPECT_EQ(Input(split.train, 0)[2000], 0.0f);
}

TEST_F(Cifar10ReaderTest, RefusesDamage) {
  WriteGood();
  Write("data_batch_3.bin", Record(1, 1) + "x");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr("data_batch_3.bin"), HasSubstr("byte 3073"))));
  Write("data_batch_3.bin", Record(1, 1) + Record(10, 1));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr("at byte 3073"), HasSubstr("got 10"))));
  Write("data_batch_3.bin", "");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
  std::filesystem::remove(folder_ / "data_batch_3.bin");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("data_batch_3.bin")));
  EXPECT_THAT(ReadData({.format = "cifar10", .path = folder_ / "test_batch.bin"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("data.test_path")));
}

class CsvReaderTest : public ReaderTest {
 protected:
  absl::StatusOr<DataSplit> ReadText(const std::string& text, bool regression = false) {
    const std::string path = Write("data.csv", text);
    return ReadData({.format = "csv", .path = path, .test_path = path, .normalization = "none", .regression = regression});
  }
};

TEST_F(CsvReaderTest, ReadsClassesWithAndWithoutHeader) {
  for (const char* header : {"", "width,height,kind\n", "\n\n w , h , k \r\n"}) {
    ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadText(absl::StrCat(header, "1.5,-2,0\r\n\n+3e2, 4 ,1\n")));
    EXPECT_EQ(split.train.size(), 2);
    EXPECT_EQ(split.train.store().output_count, 2);
    EXPECT_THAT(split.train.store().input_shape, ElementsAre(2));
    EXPECT_THAT(Input(split.train, 0), ElementsAre(1.5f, -2.0f));
    EXPECT_THAT(Input(split.train, 1), ElementsAre(300.0f, 4.0f));
    EXPECT_EQ(split.train.label(1), 1);
  }
}

TEST_F(CsvReaderTest, ReadsRegression) {
  ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadText("1,2.5\n3,-4\n", true));
  EXPECT_THAT(split.train.store().regression_targets, ElementsAre(2.5f, -4.0f));
  EXPECT_EQ(split.train.store().output_count, 1);
  EXPECT_TRUE(split.train.store().labels.empty());
}

TEST_F(CsvReaderTest, NamesTheLineOfWhatItRefuses) {
  const auto damaged = [&](const std::string& text, const char* words) {
    EXPECT_THAT(ReadText(text), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(words))) << text;
  };
  damaged("a,b\n1,0\nx,1\n", "data.csv:3: column 1: expected a finite number, got 'x'");
  damaged("1,0\n1,2,3\n", "data.csv:2: expected 2 columns, got 3");
  damaged("1,0\n,1\n", "data.csv:2: column 1");
  damaged("1,0\nnan,1\n", "data.csv:2: column 1");
  damaged("1,0\ninf,1\n", "data.csv:2: column 1");
  damaged("1,0\n1e39,1\n", "data.csv:2: column 1");
  damaged("1,0\n1,0.5\n", "data.csv:2: column 2: expected a class");
  damaged("1,0\n1,-1\n", "data.csv:2: column 2: expected a class");
  damaged("1\n2\n", "at least 2 columns");
  damaged("1,0\n0x10,1\n", "data.csv:2");
  EXPECT_THAT(ReadText("1,0\n1,2\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 of 0..2 never occurs")));
  EXPECT_THAT(ReadText(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
  EXPECT_THAT(ReadText("a,b\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
  EXPECT_THAT(ReadData({.format = "csv", .path = "/nonexistent.csv"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent.csv")));
}

TEST_F(CsvReaderTest, HoldsOutAFractionTheSameEveryTime) {
  std::string text;
  for (int i = 0; i < 100; ++i) absl::StrAppend(&text, i, ",", i % 4, "\n");
  const DataOptions options{.format = "csv", .path = Write("data.csv", text), .held_out_fraction = 0.25, .normalization = "none"};
  ASSERT_OK_AND_ASSIGN(const DataSplit split, ReadData(options));
  ASSERT_OK_AND_ASSIGN(const DataSplit again, ReadData(options));
  EXPECT_EQ(split.train.size(), 75);
  EXPECT_EQ(split.test.size(), 25);
  std::vector<int> seen(100);
  for (const Dataset* part : {&split.train, &split.test}) {
    for (int64_t i = 0; i < part->size(); ++i) ++seen[static_cast<int>(Input(*part, i)[0])];
  }
  EXPECT_THAT(seen, ::testing::Each(1));
  EXPECT_EQ(Input(split.test, 3), Input(again.test, 3));
  // However small or large the fraction, both parts get something.
  for (double fraction : {1e-9, 1 - 1e-9}) {
    ASSERT_OK_AND_ASSIGN(const DataSplit two,
                         ReadData({.format = "csv", .path = Write("two.csv", "1,0\n2,0\n"), .held_out_fraction = fraction}));
    EXPECT_EQ(two.train.size(), 1);
    EXPECT_EQ(two.test.size(), 1);
  }
  EXPECT_THAT(ReadData({.format = "csv", .path = Write("one.csv", "1,0\n")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one example")));
}

TEST_F(CsvReaderTest, StandardIsPerColumnOfTheTrainingPart) {
  const std::string train = Write("train.csv", "1,1000001,0\n3,1000001,1\n"), test = Write("test.csv", "5,1000002,1\n");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "csv", .path = train, .test_path = test, .normalization = "standard"}));
  EXPECT_THAT(Input(split.train, 0), ElementsAre(-1, 0));
  EXPECT_THAT(Input(split.train, 1), ElementsAre(1, 0));
  EXPECT_THAT(Input(split.test, 0), ElementsAre(3, 1));
  EXPECT_THAT(ReadData({.format = "csv", .path = train, .test_path = Write("bad.csv", "5,6,2\n")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad.csv:1: class 2")));
  EXPECT_THAT(ReadData({.format = "csv", .path = train, .test_path = Write("bad.csv", "5,6\n")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 3 columns")));
}

class TextReaderTest : public ReaderTest {};

TEST_F(TextReaderTest, WindowsPredictTheNextCharacter) {
  const std::string path = Write("a.txt", "abcab");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = path, .test_path = path, .sequence_length = 3}));
  EXPECT_TRUE(split.train.store().is_tokens());
  EXPECT_EQ(split.train.store().output_count, 3);  // a, b, c
  EXPECT_THAT(split.train.store().input_shape, ElementsAre(3));
  ASSERT_EQ(split.train.size(), 2);
  EXPECT_THAT(Input(split.train, 0), ElementsAre(0, 1, 2));
  EXPECT_EQ(split.train.label(0), 0);
  EXPECT_THAT(Input(split.train, 1), ElementsAre(1, 2, 0));
  EXPECT_EQ(split.train.label(1), 1);
  EXPECT_TRUE(split.train.store().natural_groups.empty());
}

TEST_F(TextReaderTest, StrideIsAnEighthOfTheWindow) {
  const std::string path = Write("a.txt", std::string(100, 'x'));
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = path, .test_path = path, .sequence_length = 80}));
  EXPECT_EQ(split.train.size(), 2);  // starts 0 and 10; 20 would need character 100
}

TEST_F(TextReaderTest, SpeakersAreGroups) {
  const std::string path = Write("play.txt", "KING:\naaaa\n\nFOOL:\nbb: b\r\nKING:\n\nKING:\ncc\n");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = path, .test_path = path, .sequence_length = 1}));
  // KING says "aaaa\ncc\n"; FOOL says "bb: b\nKING:\n", whose second line follows no blank line.
  ASSERT_EQ(split.train.size(), 7 + 11);
  for (int64_t i = 0; i < split.train.size(); ++i) EXPECT_EQ(split.train.store().natural_groups[i], i < 7 ? 0 : 1);
  EXPECT_EQ(split.train.store().output_count, 10);  // newline, space, colon, G I K N, a b c
}

TEST_F(TextReaderTest, ShortSpeakersAreLeftOutAndGroupsStayDense) {
  const std::string path = Write("play.txt", "A:\nxy\n\nB:\nxyxyxyxy\n\nC:\nyxyxyxyx\n");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = path, .test_path = path, .sequence_length = 5}));
  EXPECT_EQ(split.train.store().natural_groups.front(), 0);
  EXPECT_EQ(split.train.store().natural_groups.back(), 1);
}

TEST_F(TextReaderTest, HoldsOutTheEndOfEachSpeaker) {
  const std::string path = Write("play.txt", "A:\n" + std::string(99, 'a') + "\n\nB:\n" + std::string(99, 'b') + "\n");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = path, .held_out_fraction = 0.2, .sequence_length = 4}));
  EXPECT_EQ(split.train.size(), 2 * (80 - 4));
  // The last of each speaker's 20 test characters is a newline, which the training part lacks: that window is left out.
  EXPECT_EQ(split.test.size(), 2 * (20 - 4 - 1));
  EXPECT_EQ(split.train.store().output_count, 2);
}

TEST_F(TextReaderTest, FoldersAreJoinedInNameOrder) {
  Write("b.txt", "B:\nbbbb\n");
  Write("a.txt", "A:\naaaa");
  Write("c.md", "not text");
  ASSERT_OK_AND_ASSIGN(const DataSplit split,
                       ReadData({.format = "text", .path = folder_, .test_path = folder_, .sequence_length = 2}));
  EXPECT_EQ(split.train.store().output_count, 3);
  EXPECT_EQ(split.train.size(), 6);
  EXPECT_EQ(split.train.store().natural_groups.back(), 1);
}

TEST_F(TextReaderTest, RefusesTooLittleText) {
  const std::string path = Write("a.txt", "abc");
  EXPECT_THAT(ReadData({.format = "text", .path = path}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("run of 81 characters")));
  EXPECT_THAT(ReadData({.format = "text", .path = Write("empty.txt", "")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
  EXPECT_THAT(ReadData({.format = "text", .path = "/nonexistent.txt"}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent.txt")));
  std::filesystem::create_directory(folder_ / "none");
  EXPECT_THAT(ReadData({.format = "text", .path = folder_ / "none"}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("*.txt")));
  EXPECT_THAT(
      ReadData(
          {.format = "text", .path = Write("t.txt", "aaaaaaaa"), .test_path = Write("u.txt", "bbbbbbbb"), .sequence_length = 2}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("test part")));
}

}  // namespace
}  // namespace fedwatt
