#include "fedwatt/rpc/conversion.h"

#include <limits>

#include "fedwatt/v1/coordinator.pb.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

// Every field differs from its default and from every other, so a forgotten or swapped one shows.
Plan FullPlan() {
  Plan plan;
  plan.run_id = "run-7";
  plan.architecture = {"mlp_2nn", {1, 28, 29}, 11, {{"dropout", "0.5"}, {"width", "3"}}, Sha256("archive")};
  plan.layout_digest = Sha256("layout");
  plan.recipe = {3, 5, 17, 0.03, 0.9, 0.0004, 0.25, 2, "mean_squared_error"};
  plan.fit = {0.5, "bfloat16"};
  plan.architecture.quantization = "int8";
  plan.architecture.kept = {{"fc1", {{0, 3}, {5, 7}}}, {"fc2", {{1, 2}}}};
  plan.uplink_codec = "int8";
  plan.downlink_codec = "bfloat16";
  plan.limits = {8.5, 12.5, 4321, 987654321};
  plan.clip_norm = 2.5;
  plan.seed = 0xfedcba9876543210u;
  return plan;
}

TEST(ConversionTest, PlanKeepsEveryField) {
  const Plan plan = FullPlan();
  ASSERT_OK_AND_ASSIGN(Plan back, FromProto(ToProto(plan)));
  EXPECT_EQ(back.run_id, plan.run_id);
  EXPECT_EQ(back.architecture.name, plan.architecture.name);
  EXPECT_EQ(back.architecture.input_shape, plan.architecture.input_shape);
  EXPECT_EQ(back.architecture.output_count, plan.architecture.output_count);
  EXPECT_EQ(back.architecture.options, plan.architecture.options);
  EXPECT_EQ(back.architecture.archive_digest, plan.architecture.archive_digest);
  EXPECT_EQ(back.layout_digest, plan.layout_digest);
  EXPECT_EQ(back.recipe.local_epochs, 3);
  EXPECT_EQ(back.recipe.local_steps, 5);
  EXPECT_EQ(back.recipe.batch_size, 17);
  EXPECT_EQ(back.recipe.client_learning_rate, 0.03);
  EXPECT_EQ(back.recipe.momentum, 0.9);
  EXPECT_EQ(back.recipe.weight_decay, 0.0004);
  EXPECT_EQ(back.recipe.proximal_mu, 0.25);
  EXPECT_EQ(back.recipe.threads, 2);
  EXPECT_EQ(back.recipe.loss, "mean_squared_error");
  EXPECT_EQ(back.fit.width_fraction, 0.5);
  EXPECT_EQ(back.architecture.kept, plan.architecture.kept);
  EXPECT_EQ(back.fit.number_format, "bfloat16");
  EXPECT_EQ(back.architecture.quantization, "int8");
  EXPECT_EQ(back.uplink_codec, "int8");
  EXPECT_EQ(back.downlink_codec, "bfloat16");
  EXPECT_EQ(back.limits.max_abs, 8.5);
  EXPECT_EQ(back.limits.max_norm, 12.5);
  EXPECT_EQ(back.limits.max_example_count, 4321);
  EXPECT_EQ(back.limits.max_update_bytes, 987654321);
  EXPECT_EQ(back.clip_norm, 2.5);
  EXPECT_EQ(back.seed, 0xfedcba9876543210u);
}

// A field added to the proto and forgotten here shows as one that a full plan leaves unset.
TEST(ConversionTest, PlanFillsEveryFieldOfTheMessage) {
  const v1::Plan proto = ToProto(FullPlan());
  for (const google::protobuf::Message* message :
       {static_cast<const google::protobuf::Message*>(&proto), static_cast<const google::protobuf::Message*>(&proto.architecture()),
        static_cast<const google::protobuf::Message*>(&proto.recipe()), static_cast<const google::protobuf::Message*>(&proto.fit()),
        static_cast<const google::protobuf::Message*>(&proto.limits())}) {
    std::vector<const google::protobuf::FieldDescriptor*> set;
    message->GetReflection()->ListFields(*message, &set);
    EXPECT_EQ(static_cast<int>(set.size()), message->GetDescriptor()->field_count()) << message->GetDescriptor()->full_name();
  }
}

TEST(ConversionTest, ManyRangesArePackedAndComeBack) {
  Plan plan = FullPlan();
  std::vector<ChannelRange>& weights = plan.architecture.kept["a.weight[]"];
  for (int64_t i = 0; i < 3000; ++i) weights.push_back({3 * i + i % 2, 3 * i + 2});
  v1::Plan proto = ToProto(plan);
  v1::ChannelRanges& said = (*proto.mutable_architecture()->mutable_kept())["a.weight[]"];
  EXPECT_EQ(said.ranges_size(), 0);
  EXPECT_LT(said.packed().size(), 1200u) << "a bit a weight";
  ASSERT_OK_AND_ASSIGN(const Plan back, FromProto(proto));
  EXPECT_EQ(back.architecture.kept, plan.architecture.kept);
  said.add_ranges()->set_end(1);
  EXPECT_THAT(FromProto(proto), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("both packed and listed")));
  said.clear_ranges();
  said.mutable_packed()->resize(7);
  EXPECT_THAT(FromProto(proto), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
}

TEST(ConversionTest, PlanFromTheWireIsChecked) {
  v1::Plan proto = ToProto(FullPlan());
  proto.mutable_recipe()->set_client_learning_rate(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(FromProto(proto), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("learning_rate")));
  proto = ToProto(FullPlan());
  proto.set_layout_digest("short");
  EXPECT_THAT(FromProto(proto), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("plan.layout_digest")));
  EXPECT_THAT(FromProto(v1::Plan()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")));
}

TEST(ConversionTest, RejectionNumbersAreTheWires) {
  for (Rejection rejection : AllRejections()) {
    ASSERT_OK_AND_ASSIGN(Rejection back, FromProto(ToProto(rejection)));
    EXPECT_EQ(back, rejection);
    // REJECTION_REASON_WRONG_LAYOUT <-> wrong_layout.
    std::string name = v1::RejectionReason_Name(ToProto(rejection)).substr(std::string("REJECTION_REASON_").size());
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(name, RejectionName(rejection));
  }
  EXPECT_EQ(static_cast<size_t>(v1::RejectionReason_descriptor()->value_count()), AllRejections().size() + 1);
  EXPECT_FALSE(FromProto(v1::REJECTION_REASON_UNSPECIFIED).ok());
  EXPECT_FALSE(FromProto(static_cast<v1::RejectionReason>(18)).ok());
  EXPECT_FALSE(FromProto(static_cast<v1::RejectionReason>(-1)).ok());
}

TEST(ConversionTest, TiersAndPhasesHaveTheRecordsNames) {
  for (int i = 1; i < v1::EnergyTier_ARRAYSIZE; ++i) {
    ASSERT_OK_AND_ASSIGN(EnergyTier tier, FromProto(static_cast<v1::EnergyTier>(i)));
    EXPECT_EQ(ToProto(tier), i);
    std::string name = v1::EnergyTier_Name(i).substr(std::string("ENERGY_TIER_").size());
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(name, EnergyTierName(tier));
  }
  for (int i = 1; i < v1::Phase_ARRAYSIZE; ++i) {
    ASSERT_OK_AND_ASSIGN(Phase phase, FromProto(static_cast<v1::Phase>(i)));
    EXPECT_EQ(ToProto(phase), i);
    std::string name = v1::Phase_Name(i).substr(std::string("PHASE_").size());
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    EXPECT_EQ(name, PhaseName(phase));
  }
  EXPECT_FALSE(FromProto(v1::ENERGY_TIER_UNSPECIFIED).ok());
  EXPECT_FALSE(FromProto(static_cast<v1::EnergyTier>(8)).ok());
  EXPECT_FALSE(FromProto(v1::PHASE_UNSPECIFIED).ok());
  EXPECT_FALSE(FromProto(static_cast<v1::Phase>(13)).ok());
}

PhaseSpan Span(Phase phase, EnergyReading energy) { return {phase, absl::Milliseconds(1500), absl::Microseconds(70), std::move(energy)}; }

TEST(ConversionTest, PhasesKeepTimesJoulesAndAbsence) {
  const EnergyReading rapl{Microjoules(5), Microjoules(3), Microjoules(9), EnergyTier::kComponent, "rapl", "package-0", absl::Seconds(7), Microjoules(80), Microjoules(2)};
  const EnergyReading zero{Microjoules(0), {}, {}, EnergyTier::kComponent, "rapl", "package-0", {}};  // a measurement, and not missing
  const EnergyReading both{Microjoules(1), {}, {}, EnergyTier::kGeneric, "rapl+cpu_time", "package-0+process", {}};
  const std::vector<PhaseSpan> sent = {Span(Phase::kInit, {}), Span(Phase::kTrain, rapl), Span(Phase::kEncode, zero), Span(Phase::kDownload, {}),
                                       Span(Phase::kUpload, zero), Span(Phase::kDecode, both)};
  const google::protobuf::RepeatedPtrField<v1::PhaseSpan> protos = ToProto(sent);
  // The origin is said where it changes, and not again after a phase without joules.
  for (int i = 0; i < protos.size(); ++i) EXPECT_EQ(protos[i].has_energy_origin(), i == 1 || i == 5) << i;
  ASSERT_OK_AND_ASSIGN(std::vector<PhaseSpan> spans, FromProto(protos));
  ASSERT_EQ(spans.size(), sent.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].phase, sent[i].phase);
    EXPECT_EQ(spans[i].wall, absl::Milliseconds(1500));
    EXPECT_EQ(spans[i].cpu, absl::Microseconds(70));
    EXPECT_EQ(spans[i].energy.energy, sent[i].energy.energy) << i;
    EXPECT_EQ(spans[i].energy.low, sent[i].energy.low);
    EXPECT_EQ(spans[i].energy.high, sent[i].energy.high);
    EXPECT_EQ(spans[i].energy.gross, sent[i].energy.gross);
    EXPECT_EQ(spans[i].energy.idle, sent[i].energy.idle);
    EXPECT_EQ(spans[i].energy.tier, sent[i].energy.tier) << i;
    EXPECT_EQ(spans[i].energy.source, sent[i].energy.source);
    EXPECT_EQ(spans[i].energy.domain, sent[i].energy.domain);
    EXPECT_EQ(spans[i].energy.window, absl::Milliseconds(1500));
  }
}

// 7 metered phases of up to two seconds: what a report of an attempt costs.
TEST(ConversionTest, PhasesAreCompact) {
  std::vector<PhaseSpan> spans;
  for (Phase phase : {Phase::kInit, Phase::kDownload, Phase::kDecode, Phase::kFit, Phase::kTrain, Phase::kEncode, Phase::kUpload}) {
    spans.push_back(Span(phase, {Microjoules(600'000), Microjoules(200'000), Microjoules(1'800'000), EnergyTier::kGeneric, "cpu_time", "process", {}}));
  }
  v1::ReportRequest report;
  *report.mutable_phases() = ToProto(spans);
  EXPECT_LE(report.ByteSizeLong(), 190);
}

TEST(ConversionTest, PhasesThatContradictThemselvesAreRefused) {
  google::protobuf::RepeatedPtrField<v1::PhaseSpan> protos;
  v1::PhaseSpan& proto = *protos.Add();
  auto expect_refused = [&](const std::string& word) { EXPECT_THAT(FromProto(protos), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(word))); };
  expect_refused("unknown value 0");
  proto.set_phase(v1::PHASE_TRAIN);
  EXPECT_THAT(FromProto(protos), IsOk());
  proto.set_energy_uj(5);
  expect_refused("train: joules without an origin");
  proto.mutable_energy_origin()->set_tier(v1::ENERGY_TIER_MISSING);
  expect_refused("without an origin");
  proto.mutable_energy_origin()->set_tier(v1::ENERGY_TIER_UNSPECIFIED);
  expect_refused("tier");
  proto.mutable_energy_origin()->set_tier(v1::ENERGY_TIER_WALL);
  EXPECT_THAT(FromProto(protos), IsOk());
  proto.set_energy_uj(-1);
  expect_refused("-1 uJ");
  proto.set_energy_uj(std::numeric_limits<int64_t>::max());
  expect_refused("uJ");
  proto.set_energy_uj(5);
  proto.set_low_energy_uj(7);
  proto.set_high_energy_uj(6);
  expect_refused("outside their own interval");
  proto.set_low_energy_uj(5);
  EXPECT_THAT(FromProto(protos), IsOk());
  proto.set_high_energy_uj(4);
  expect_refused("outside their own interval");
  proto.clear_high_energy_uj();
  proto.set_low_energy_uj(1000000000000000000);  // alone, it must not slip through
  expect_refused("outside their own interval");
  proto.clear_low_energy_uj();
  proto.set_gross_energy_uj(4);
  expect_refused("more than the whole");
  proto.set_gross_energy_uj(5);
  proto.set_idle_energy_uj(6);
  expect_refused("less than its idle part");
  proto.set_idle_energy_uj(-1);
  expect_refused("-1 uJ");
  proto.set_idle_energy_uj(5);
  EXPECT_THAT(FromProto(protos), IsOk());
  proto.clear_energy_uj();
  expect_refused("a share without a value");
  proto.clear_gross_energy_uj();
  proto.clear_idle_energy_uj();
  proto.set_low_energy_uj(1);
  expect_refused("without a value");
  proto.clear_low_energy_uj();
  proto.set_wall_us(-1);
  expect_refused("negative");
  proto.set_wall_us(std::numeric_limits<int64_t>::max());
  EXPECT_THAT(FromProto(protos), IsOk());
  proto.set_cpu_us(std::numeric_limits<int64_t>::min());
  expect_refused("negative");
  proto.set_cpu_us(0);
  proto.set_energy_uj(5);
  proto.mutable_energy_origin()->set_source(std::string(1000, 'x'));
  EXPECT_EQ(FromProto(protos)->at(0).energy.source.size(), 128u);
  *protos.Add() = protos[0];
  expect_refused("twice");
}

TEST(ConversionTest, SpansAndTimes) {
  for (absl::Duration span : {absl::ZeroDuration(), absl::Nanoseconds(1), absl::Nanoseconds(-1), absl::Milliseconds(-1500), absl::Hours(1000000),
                              absl::InfiniteDuration(), -absl::InfiniteDuration()}) {
    ASSERT_OK_AND_ASSIGN(absl::Duration back, FromProto(ToProto(span)));
    EXPECT_EQ(back, span);
  }
  for (int64_t nanos : {int64_t{0}, int64_t{-1}, int64_t{1}, int64_t{1750000000123456789}, int64_t{-1750000000123456789}}) {
    ASSERT_OK_AND_ASSIGN(absl::Time back, FromProto(ToProto(absl::FromUnixNanos(nanos))));
    EXPECT_EQ(absl::ToUnixNanos(back), nanos);
  }
  google::protobuf::Duration odd;
  odd.set_seconds(1);
  odd.set_nanos(-1);
  EXPECT_FALSE(FromProto(odd).ok());
  odd.set_seconds(0);
  odd.set_nanos(1000000000);
  EXPECT_FALSE(FromProto(odd).ok());
  odd.set_seconds(std::numeric_limits<int64_t>::max());
  odd.set_nanos(0);
  EXPECT_FALSE(FromProto(odd).ok());
  google::protobuf::Timestamp time;
  time.set_nanos(-1);
  EXPECT_FALSE(FromProto(time).ok());
  time.set_nanos(0);
  time.set_seconds(std::numeric_limits<int64_t>::min());
  EXPECT_FALSE(FromProto(time).ok());
}

}  // namespace
}  // namespace fedwatt
