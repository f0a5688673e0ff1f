#include "fedwatt/model/torchscript/protocol.h"

#include <sys/socket.h>
#include <unistd.h>

#include <limits>
#include <thread>

#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

ParameterLayout SmallLayout() {
  return *ParameterLayout::Create({{"fc.weight", {2, 3}}, {"bn.mean", {3}, EntryKind::kAveragedBuffer}, {"n", {}, EntryKind::kLocal, Dtype::kInt64}});
}

Dataset SmallDataset() {
  ExampleStore store;
  store.input_shape = {2};
  store.inputs = std::vector<uint8_t>{0, 1, 2, 3, 4, 5};
  store.scale = {2};
  store.shift = {-1};
  store.labels = {2, 0, 1};
  store.output_count = 3;
  return *Dataset::Create(std::move(store))->Subset({2, 0, 2});
}

ModelProfile SmallProfile() { return {{{"conv2d", {"fc.weight", "bn.mean"}, {2, 3}, 18, 24}, {"relu", {}, {2, 3}, 0, 24}}, 3}; }

TEST(ProtocolTest, AProfileIsReadAsItWasPut) {
  ByteWriter out;
  PutProfile(out, SmallProfile());
  ByteReader in(out.str(), "test");
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, GetProfile(in));
  EXPECT_THAT(ExpectEnd(in, "all"), IsOk());
  EXPECT_EQ(profile.output_count, 3);
  ASSERT_EQ(profile.operators.size(), 2u);
  EXPECT_EQ(profile.operators[0].name, "conv2d");
  EXPECT_EQ(profile.operators[0].entries, (std::vector<std::string>{"fc.weight", "bn.mean"}));
  EXPECT_EQ(profile.operators[0].output_shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(profile.operators[0].macs, 18);
  EXPECT_EQ(profile.operators[0].activation_bytes, 24);
}

TEST(ProtocolTest, AProfileOutOfRangeIsRefused) {
  const auto refused = [](auto change) {
    ModelProfile profile = SmallProfile();
    change(profile);
    ByteWriter out;
    PutProfile(out, profile);
    ByteReader in(out.str(), "test");
    return absl::IsDataLoss(GetProfile(in).status());
  };
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.output_count = 0; }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.output_count = int64_t{1} << 60; }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.operators[0].macs = -1; }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.operators[1].macs = std::numeric_limits<double>::quiet_NaN(); }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.operators[1].macs = std::numeric_limits<double>::infinity(); }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.operators[1].activation_bytes = -1; }));
  EXPECT_TRUE(refused([](ModelProfile& profile) { profile.operators[1].entries = {std::string(256, 'x')}; }));
}

ArchiveChannels SmallChannels() {
  return {{{"fc", 2, {{.entry = "fc.weight", .axis = 0, .repeat = 1, .blocks = 2, .begin = 1, .reads = true}}}, {"bn", 3, {{.entry = "bn.mean"}}}},
          {{"out", 10, "the network's output"}},
          {4, 1.5, 0}};
}

TEST(ProtocolTest, WhatIsPutIsRead) {
  ByteWriter out;
  PutLayout(out, SmallLayout());
  PutDataset(out, SmallDataset());
  TrainingRecipe recipe;
  recipe.local_steps = 7;
  recipe.momentum = 0.25;
  recipe.loss = "mean_squared_error";
  PutRecipe(out, recipe);
  // An empty group crosses as it is: whoever cuts refuses it.
  const KeptChannels kept = {{"bn", {}}, {"fc", {{0, 1}, {3, 7}}}};
  PutKept(out, kept);
  PutArchiveChannels(out, SmallChannels());
  ByteReader in(out.str(), "test");
  ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, GetLayout(in));
  EXPECT_EQ(layout, SmallLayout());
  ASSERT_OK_AND_ASSIGN(const Dataset data, GetDataset(in));
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.label(0), 1);
  EXPECT_EQ(data.label(1), 2);
  EXPECT_EQ(data.label(2), 1);
  float input[2];
  data.CopyInput(0, absl::MakeSpan(input));
  EXPECT_EQ(input[0], 7);  // byte 4 * 2 - 1
  EXPECT_EQ(input[1], 9);
  ASSERT_OK_AND_ASSIGN(const TrainingRecipe read, GetRecipe(in));
  EXPECT_EQ(read.local_steps, 7);
  EXPECT_EQ(read.momentum, 0.25);
  EXPECT_EQ(read.loss, "mean_squared_error");
  ASSERT_OK_AND_ASSIGN(const KeptChannels read_kept, GetKept(in));
  EXPECT_EQ(read_kept, kept);
  ASSERT_OK_AND_ASSIGN(const ArchiveChannels channels, GetArchiveChannels(in));
  EXPECT_EQ(channels.groups, SmallChannels().groups);
  EXPECT_EQ(channels.whole, SmallChannels().whole);
  EXPECT_EQ(channels.uses, SmallChannels().uses);
  EXPECT_THAT(ExpectEnd(in, "all"), IsOk());
  EXPECT_THAT(DecodeError(EncodeError(absl::AbortedError("why"))), StatusIs(absl::StatusCode::kAborted, "why"));
}

TEST(ProtocolTest, EveryTruncationIsRefused) {
  ByteWriter layout, data, recipe, profile, kept, channels;
  PutProfile(profile, SmallProfile());
  PutKept(kept, {{"a", {{0, 1}, {3, 7}}}, {"b", {{2, 3}}}});
  PutArchiveChannels(channels, SmallChannels());
  PutLayout(layout, SmallLayout());
  PutDataset(data, SmallDataset());
  PutRecipe(recipe, {});
  const auto refuses = [](const std::string& whole, auto get) {
    for (size_t length = 0; length < whole.size(); ++length) {
      ByteReader in(std::string_view(whole).substr(0, length), "test");
      EXPECT_FALSE(get(in).ok()) << length;
    }
  };
  refuses(layout.str(), [](ByteReader& in) { return GetLayout(in).status(); });
  refuses(data.str(), [](ByteReader& in) { return GetDataset(in).status(); });
  refuses(recipe.str(), [](ByteReader& in) { return GetRecipe(in).status(); });
  refuses(profile.str(), [](ByteReader& in) { return GetProfile(in).status(); });
  refuses(kept.str(), [](ByteReader& in) { return GetKept(in).status(); });
  refuses(channels.str(), [](ByteReader& in) { return GetArchiveChannels(in).status(); });
}

TEST(ProtocolTest, FlippedBytesNeverCrash) {
  ByteWriter out;
  PutLayout(out, SmallLayout());
  PutDataset(out, SmallDataset());
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = out.str();
    for (int flips = 1 + random.Below(4); flips > 0; --flips) bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
    ByteReader in(bytes, "test");
    if (GetLayout(in).ok()) (void)GetDataset(in);
    ByteReader as_profile(bytes, "test");
    (void)GetProfile(as_profile);
  }
  ByteWriter channels;
  PutKept(channels, {{"a", {{0, 1}, {3, 7}}}});
  PutArchiveChannels(channels, SmallChannels());
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = channels.str();
    for (int flips = 1 + random.Below(4); flips > 0; --flips) bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
    ByteReader in(bytes, "test");
    if (GetKept(in).ok()) (void)GetArchiveChannels(in);
  }
}

TEST(ProtocolTest, HostileChannelsAreRefused) {
  ByteWriter twice;
  twice.Put<uint64_t>(2);
  for (int i = 0; i < 2; ++i) {
    PutString(twice, "a");
    twice.Put<uint64_t>(0);
  }
  ByteReader kept(twice.str(), "test");
  EXPECT_THAT(GetKept(kept), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("kept twice")));
  ByteWriter endless;  // as many groups, or axes, as a number can say: nothing is reserved for them
  endless.Put(std::numeric_limits<uint64_t>::max());
  ByteReader groups(endless.str(), "test");
  EXPECT_FALSE(GetGroups(groups).ok());
  ByteReader many(endless.str(), "test");
  EXPECT_FALSE(GetKept(many).ok());
  for (const std::vector<ChannelGroup>& bad : {std::vector<ChannelGroup>{{"", 2, {}}}, {{"a", 0, {}}}, {{"a", -1, {}}}, {{"a", std::numeric_limits<int64_t>::max(), {}}},
                                               {{"a", 2, {}}, {"a", 2, {}}}}) {
    ByteWriter out;
    PutGroups(out, bad);
    ByteReader in(out.str(), "test");
    EXPECT_THAT(GetGroups(in), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("channel group")));
  }
}

TEST(ProtocolTest, HostileErrorsAreRefused) {
  for (uint32_t code : {0u, 17u, 1000u}) {
    ByteWriter out;
    out.Put(code);
    PutString(out, "message");
    EXPECT_THAT(DecodeError(out.str()), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("status code")));
  }
  ByteWriter long_message;
  long_message.Put<uint32_t>(3);
  PutString(long_message, std::string(kMaxMessageBytes + 1, 'x'));
  EXPECT_THAT(DecodeError(long_message.str()), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("message")));
  EXPECT_THAT(DecodeError("abc"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
}

class FrameTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  void TearDown() override {
    close(ends_[0]);
    close(ends_[1]);
  }
  int ends_[2];
};

TEST_F(FrameTest, CarriesLargePayloads) {
  std::string payload(20 << 20, '\0');
  for (size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 31);
  std::jthread writer([&] { EXPECT_THAT(WriteFrame(ends_[0], FrameKind::kSaved, payload), IsOk()); });
  ASSERT_OK_AND_ASSIGN(const Frame frame, ReadFrame(ends_[1], payload.size()));
  EXPECT_EQ(frame.kind, FrameKind::kSaved);
  EXPECT_EQ(frame.payload, payload);
}

TEST_F(FrameTest, BeyondTheLimitOrCutShort) {
  ASSERT_THAT(WriteFrame(ends_[0], FrameKind::kDone, "12345"), IsOk());
  EXPECT_THAT(ReadFrame(ends_[1], 4), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("5 bytes")));
  ByteWriter lie;
  lie.Put<uint32_t>(1);
  lie.Put<uint64_t>(uint64_t{1} << 33);
  (void)!write(ends_[0], lie.str().data(), lie.size());
  shutdown(ends_[0], SHUT_WR);
  (void)ReadFrame(ends_[1], 5);  // drains what the first frame left
  EXPECT_THAT(ReadFrame(ends_[1], kMaxFrameBytes), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("gone")));
}

TEST_F(FrameTest, WritingToTheDeadIsAnErrorNotASignal) {
  close(ends_[1]);
  EXPECT_THAT(WriteFrame(ends_[0], FrameKind::kDone, std::string(1 << 20, 'x')), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("gone")));
  ends_[1] = dup(ends_[0]);
}

TEST_F(FrameTest, TheWaiterEndsATransfer) {
  const FrameWaiter impatient = [](short) { return absl::DeadlineExceededError("enough"); };
  EXPECT_THAT(ReadFrame(ends_[1], 10, impatient), StatusIs(absl::StatusCode::kDeadlineExceeded, "enough"));
}

}  // namespace
}  // namespace fedwatt::internal
