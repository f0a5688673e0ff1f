#include <cmath>
#include <regex>
#include <set>

#include "fedwatt/base/file.h"
#include "fedwatt/energy/ledger.h"
#include "gmock/gmock.h"
#include "tests/integration/federation.h"

namespace fedwatt::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;

std::vector<std::string> Digests(const std::string& out) {
  std::vector<std::string> digests;
  const absl::StatusOr<RunRecord> record = ReadRunRecord(out);
  if (!record.ok()) return {record.status().ToString()};
  for (const RoundRecord& round : record->rounds) digests.push_back(round.model_digest);
  return digests;
}

// Both directions of a run, and who trains how much.
struct Compression {
  std::string name, uplink, downlink;
  double accuracy = 0.9;  // of 21 parameters after 4 rounds: a coarse step shows
  FitOptions fit;
};
class CompressionTest : public ::testing::TestWithParam<Compression> {};

// Deals the four members the whole model, half of its inputs, and a quarter.
FitOptions Mix(std::string channels, int64_t live) {
  return FitOptions{.policy = "by_capability", .widths = {1, 0.5, 0.25}, .channels = std::move(channels), .live = live};
}

TEST_P(CompressionTest, CommitsWhatTheFleetCommitsBitForBit) {
  LogisticTrainer trainer(kInputs, kClasses);
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.model.plan.uplink_codec = GetParam().uplink;
  options.model.plan.downlink_codec = GetParam().downlink;
  options.model.fit = GetParam().fit;
  options.model.groups = trainer.channel_groups();
  options.model.initial_from_seed = true;
  options.evaluation_trainer = &trainer;
  options.evaluation_data = MakeBlobs(300, kInputs, kClasses, 1);
  std::vector<std::string> expected;
  for (const RoundRecord& round : Simulate(TwinOf(options))) expected.push_back(round.model_digest);

  RunningServer server(std::move(options));
  RunningClient several(OptionsFor(server.address(), out.path(), {3, 1})), one(OptionsFor(server.address(), out.path(), {2})),
      another(OptionsFor(server.address(), out.path(), {0}));
  for (RunningClient* client : {&several, &one, &another}) {
    ASSERT_OK_AND_ASSIGN(ClientSummary summary, client->Wait());
    EXPECT_TRUE(summary.succeeded);
    EXPECT_EQ(summary.reason, "all rounds done");
  }
  const RunOutcome outcome = server.Wait();
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.committed_rounds, 4);
  EXPECT_EQ(Digests(out.path()), expected);
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_GT(record.rounds.back().eval_accuracy.value_or(0), GetParam().accuracy);
  EXPECT_EQ(record.rounds.back().eval_examples, 300);
  for (const RoundRecord& round : record.rounds) {
    EXPECT_EQ(round.clients_completed, 3);
    EXPECT_GT(round.uplink_wire_bytes.value_or(0), round.uplink_payload_bytes);
    EXPECT_GT(round.downlink_wire_bytes.value_or(0), round.downlink_payload_bytes);
    EXPECT_GT(round.uplink_header_bytes.value_or(0), 0);
    EXPECT_GT(round.downlink_header_bytes.value_or(0), 0);
    EXPECT_GT(round.peak_rss_bytes.value_or(0), 0);
    EXPECT_GT(round.client_train_seconds, 0);
  }
  std::set<double> widths;
  for (const AttemptRecord& attempt : record.attempts) {
    EXPECT_EQ(attempt.outcome, "accepted");
    EXPECT_FALSE(attempt.phases.empty());
    widths.insert(attempt.fit.width_fraction);
    const int64_t kept = std::llround(std::ceil(attempt.fit.width_fraction * kInputs));
    EXPECT_EQ(attempt.fit_parameter_count, kClasses * kept + kClasses);
  }
  const std::vector<double>& mix = GetParam().fit.widths;
  EXPECT_EQ(widths, mix.empty() ? std::set<double>{1} : std::set<double>(mix.begin(), mix.end()));
}

INSTANTIATE_TEST_SUITE_P(Pipelines, CompressionTest,
                         ::testing::Values(Compression{"Float32", "float32", "float32"}, Compression{"NoRegret", "dct,dithered:rate=0.6", "chain:multiple=0.25", 0.7},
                                           Compression{"Smallest", "dct,dithered:multiple=20", "chain:multiple=0.5", 0.2},
                                           Compression{"FeedbackAndARate", "ef,ecsq:rate=0.5", "chain:rate=0.3:length=2", 0.2},
                                           Compression{"Int8", "ef,int8", "bfloat16"},
                                           Compression{"MixedWidths", "dithered:rate=0.5", "chain:multiple=0.3", 0.5, Mix("ordered", 8)},
                                           Compression{"MixedWidthsFeedbackOneChain", "ef,ecsq:rate=0.5", "chain:multiple=0.3", 0.2, Mix("ordered", 1)},
                                           Compression{"MixedWidthsSparse", "ef,top_k:fraction=0.3,float32", "float32", 0.5, Mix("ordered", 8)},
                                           Compression{"RollingWidths", "ef,int8", "chain:multiple=0.3", 0.5, Mix("rolling", 8)},
                                           Compression{"RollingWidthsInt8", "int8", "int8", 0.5, Mix("rolling", 0)}),
                         [](const auto& info) { return info.param.name; });

// The model is cut twice, and some clients are away meanwhile; centrally and on clients it is what is left that is scored.
TEST(FederationTest, APrunedFederationCommitsWhatTheFleetCommits) {
  constexpr int64_t kWide = 40;
  LogisticTrainer trainer(kWide, kClasses);
  Folder out;
  ServerOptions options = FederationOptions(out.path(), kWide);
  options.engine.rounds = 7;
  options.model.plan.uplink_codec = "ef,ecsq:rate=0.5";
  options.model.plan.downlink_codec = "chain:multiple=0.3";
  options.model.prune = {.target = 0.35, .begin = 1, .end = 3, .every = 2};
  options.model.fit = Mix("ordered", 8);
  options.model.groups = trainer.channel_groups();
  options.model.initial_from_seed = true;
  options.federated_evaluation = true;
  options.evaluation_trainer = &trainer;
  options.trainer_factory = LogisticTrainer::Make;
  options.evaluation_data = MakeBlobs(300, kWide, kClasses, 1);
  std::string finished;
  options.on_finish = [&finished](const ArchitectureSpec& architecture, absl::Span<const float> model, RunSummary&) {
    finished = absl::StrCat(model.size(), " values, ", architecture.kept.size(), " groups cut");
    return absl::OkStatus();
  };
  FleetOptions twin = TwinOf(options);
  twin.held_out_fraction = 0.25;
  const std::vector<RoundRecord> expected = Simulate(std::move(twin));

  RunningServer server(std::move(options));
  std::vector<std::unique_ptr<RunningClient>> clients;
  for (int64_t i = 0; i < kMembers; ++i) {
    ClientOptions client = OptionsFor(server.address(), out.path(), {i}, kWide);
    client.held_out_fraction = 0.25;
    clients.push_back(std::make_unique<RunningClient>(std::move(client)));
  }
  EXPECT_EQ(server.Wait().committed_rounds, 7);
  for (auto& client : clients) EXPECT_THAT(client->Wait(), IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  ASSERT_EQ(record.rounds.size(), expected.size());
  std::vector<int64_t> parameters;
  for (size_t i = 0; i < expected.size(); ++i) {
    const RoundRecord& round = record.rounds[i];
    EXPECT_EQ(round.model_digest, expected[i].model_digest) << i;
    EXPECT_EQ(round.model_parameters, expected[i].model_parameters) << i;
    EXPECT_EQ(round.eval_accuracy, expected[i].eval_accuracy) << i;
    EXPECT_EQ(round.federated_eval_examples, 3 * 15) << i;
    EXPECT_EQ(round.clients_completed, 3) << i;
    parameters.push_back(*round.model_parameters);
  }
  const int64_t whole = kClasses * kWide + kClasses;
  EXPECT_LT(parameters.front(), whole);
  EXPECT_LT(parameters[2], parameters[0]);
  EXPECT_LE(parameters.back(), whole * 6 / 10);
  EXPECT_EQ(finished, absl::StrCat(parameters.back(), " values, 1 groups cut"));
  for (const AttemptRecord& attempt : record.attempts) {
    EXPECT_EQ(attempt.outcome, "accepted") << attempt.reason;
    EXPECT_LE(attempt.fit_parameter_count, attempt.round == 1 ? whole : parameters[static_cast<size_t>(attempt.round) - 2]) << attempt.round;
  }
}

// Over TLS: what is said around the payload is bounded, and the payload is what the fleet counts.
TEST(FederationTest, ControlTrafficIsSmallAndPayloadIsTheFleets) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.engine.rounds = 12;
  options.model.plan.uplink_codec = "dithered:rate=0.5";  // its step changes each round, and with it the plan
  options.model.plan.downlink_codec = "chain:multiple=0.3";
  options.model.initial_from_seed = true;
  FleetOptions twin = TwinOf(options);
  twin.initial_model.clear();  // made from the seed, so that nobody downloads it
  const std::vector<RoundRecord> expected = Simulate(std::move(twin));

  RunningServer server(std::move(options));
  std::vector<std::unique_ptr<RunningClient>> clients;
  for (int64_t i = 0; i < kMembers; ++i) clients.push_back(std::make_unique<RunningClient>(OptionsFor(server.address(), out.path(), {i})));
  EXPECT_EQ(server.Wait().committed_rounds, 12);
  for (auto& client : clients) EXPECT_THAT(client->Wait(), IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  ASSERT_EQ(record.rounds.size(), expected.size());
  int64_t wire = 0, payload = 0, work = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const RoundRecord& round = record.rounds[i];
    EXPECT_EQ(round.model_digest, expected[i].model_digest);
    EXPECT_EQ(round.uplink_payload_bytes, expected[i].uplink_payload_bytes) << i;
    EXPECT_EQ(round.downlink_payload_bytes, expected[i].downlink_payload_bytes) << i;
    if (i == 0) continue;  // pays for handshakes and check-ins
    wire += round.uplink_wire_bytes.value_or(0) + round.downlink_wire_bytes.value_or(0);
    payload += round.uplink_payload_bytes + round.downlink_payload_bytes;
    work += round.clients_completed;
  }
  EXPECT_EQ(work, 11 * 3);
  EXPECT_GT(wire, payload);
  EXPECT_LE((wire - payload) / work, 1500);
  RecordProperty("control_bytes", std::to_string((wire - payload) / work));
}

TEST(FederationTest, ScoresOnTheClientsOwnData) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.federated_evaluation = true;
  options.engine.target_accuracy = 0.9;
  options.engine.rounds = 40;
  RunningServer server(std::move(options));
  std::vector<std::unique_ptr<RunningClient>> clients;
  for (int64_t i = 0; i < kMembers; ++i) {
    ClientOptions client = OptionsFor(server.address(), out.path(), {i});
    client.held_out_fraction = 0.25;
    clients.push_back(std::make_unique<RunningClient>(std::move(client)));
  }
  const RunOutcome outcome = server.Wait();
  EXPECT_TRUE(outcome.target_reached) << outcome.reason;
  int64_t scored = 0;
  for (auto& client : clients) {
    ASSERT_OK_AND_ASSIGN(ClientSummary summary, client->Wait());
    scored += summary.evaluated_count;
  }
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_EQ(scored, 3 * static_cast<int64_t>(record.rounds.size()));
  for (const RoundRecord& round : record.rounds) {
    EXPECT_EQ(round.federated_eval_examples, 3 * 15);
    EXPECT_TRUE(round.federated_eval_loss.has_value());
    EXPECT_FALSE(round.eval_accuracy.has_value());
  }
  EXPECT_GE(record.rounds.back().federated_eval_accuracy.value_or(0), 0.9);
}

// Devices that train half of the model score all of it: both are held, and neither is fetched whole again.
TEST(FederationTest, NarrowClientsScoreTheWholeModel) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.federated_evaluation = true;
  options.model.plan.downlink_codec = "chain:multiple=0.3";
  options.model.fit = FitOptions{.policy = "fixed", .widths = {0.5}};
  options.model.groups = LogisticTrainer(kInputs, kClasses).channel_groups();
  options.model.initial_from_seed = true;
  RunningServer server(std::move(options));
  std::vector<std::unique_ptr<RunningClient>> clients;
  for (int64_t i = 0; i < kMembers; ++i) {
    ClientOptions client = OptionsFor(server.address(), out.path(), {i});
    client.held_out_fraction = 0.25;
    clients.push_back(std::make_unique<RunningClient>(std::move(client)));
  }
  EXPECT_EQ(server.Wait().committed_rounds, 4);
  for (auto& client : clients) EXPECT_THAT(client->Wait(), IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  for (const RoundRecord& round : record.rounds) {
    EXPECT_EQ(round.federated_eval_examples, 3 * 15);
    EXPECT_EQ(round.clients_completed, 3);
  }
  for (const AttemptRecord& attempt : record.attempts) {
    EXPECT_EQ(attempt.fit_parameter_count, kClasses * (kInputs / 2) + kClasses);
    EXPECT_EQ(attempt.outcome, "accepted") << attempt.reason;
    EXPECT_LT(*attempt.downlink_payload_bytes, 120) << "an increment; a whole model carries its layout";
  }
}

TEST(FederationTest, ClientsOutliveTheCoordinator) {
  Folder out;
  std::vector<std::unique_ptr<RunningClient>> clients;
  std::string address;
  {
    ServerOptions options = FederationOptions(out.path());
    options.engine.rounds = 1000;
    options.farewell_duration = absl::ZeroDuration();
    absl::StatusOr<std::unique_ptr<Server>> created = Server::Create(std::move(options));
    ASSERT_THAT(created, IsOk());
    address = (*created)->address();
    for (int64_t i = 0; i < kMembers; ++i) clients.push_back(std::make_unique<RunningClient>(OptionsFor(address, out.path(), {i})));
    absl::SleepFor(absl::Milliseconds(300));
    // It goes without a word: nobody has run it.
  }
  ServerOptions options = FederationOptions(out.path());
  options.listen = address;
  RunningServer server(std::move(options));
  EXPECT_EQ(server.Wait().committed_rounds, 4);
  for (auto& client : clients) EXPECT_THAT(client->Wait(), IsOk());
}

TEST(FederationTest, CompressesBothWays) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.model.plan.uplink_codec = "int8";
  options.model.plan.downlink_codec = "bfloat16";
  options.model.strategy = "fedadam";
  RunningServer server(std::move(options));
  RunningClient all(OptionsFor(server.address(), out.path(), {0, 1, 2, 3}));
  EXPECT_EQ(server.Wait().committed_rounds, 4);
  EXPECT_THAT(all.Wait(), IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  for (const AttemptRecord& attempt : record.attempts) EXPECT_EQ(attempt.codec_uplink, "int8");
}

// No second of a client's run is outside of its phases, and what its reports did not tell any more its ledger does.
TEST(PhasesTest, TileTheClientsAndTheCoordinatorsTime) {
  Folder out, state;
  ServerOptions options = FederationOptions(out.path());
  options.engine.clients_per_round = 2;
  LogisticTrainer scorer(kInputs, kClasses);
  options.evaluation_trainer = &scorer;
  options.evaluation_data = MakeBlobs(300, kInputs, kClasses, 1);
  options.federated_evaluation = true;
  options.engine.rounds = 20;
  options.meter = std::move(ChooseMeter("fake", {})->meter);
  RunningServer server(std::move(options));
  RunningClient other(OptionsFor(server.address(), out.path(), {1, 2, 3}));
  ClientOptions mine = OptionsFor(server.address(), out.path(), {0});
  mine.state_directory = state.path();
  mine.held_out_fraction = 0.2;
  mine.meter = "fake";
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Client> client, Client::Create(std::move(mine)));
  const absl::Duration start = RealClock().Monotonic();
  ASSERT_OK_AND_ASSIGN(const ClientSummary summary, client->Run({}));
  const absl::Duration lived = RealClock().Monotonic() - start;
  ASSERT_THAT(other.Wait(), IsOk());
  ASSERT_THAT(server.Wait().status, IsOk());

  const auto wall = [](const std::vector<PhaseSpan>& spans) {
    absl::Duration sum;
    for (const PhaseSpan& span : spans) sum += span.wall;
    return sum;
  };
  // A busy machine may take a while to start a thread and to end it; over a client's life that is nothing (end_to_end/phases_test.py).
  const absl::Duration least = 0.99 * lived - absl::Milliseconds(20);
  EXPECT_GE(wall(summary.phases), least);
  EXPECT_LE(wall(summary.phases), lived);
  EXPECT_FALSE(SumOfSpans(summary.phases).missing()) << DescribeSpans(summary.phases);
  std::set<Phase> seen;
  for (const PhaseSpan& span : summary.phases) seen.insert(span.phase);
  for (Phase phase : {Phase::kInit, Phase::kIdleWait, Phase::kDownload, Phase::kDecode, Phase::kTrain, Phase::kEvaluate, Phase::kEncode, Phase::kCheckpoint,
                      Phase::kUpload, Phase::kMetering}) {
    EXPECT_TRUE(seen.contains(phase)) << PhaseName(phase);
  }

  // The ledger tiles it, too, and the record all but the client's last time.
  ASSERT_OK_AND_ASSIGN(const std::string ledger, ReadFile(state.path() + "/ledger-0"));
  ASSERT_OK_AND_ASSIGN(const std::vector<LedgerEntry> entries, ReadLedger(ledger, "ledger"));
  EXPECT_THAT(entries.back().payload, HasSubstr("\"outcome\":\"ended\""));
  absl::Duration booked;
  for (const LedgerEntry& entry : entries) {
    const std::regex pattern("\"wall_us\":(\\d+)");
    for (std::sregex_iterator at(entry.payload.begin(), entry.payload.end(), pattern), end; at != end; ++at) booked += absl::Microseconds(std::stoll((*at)[1]));
  }
  EXPECT_GE(booked, least);
  EXPECT_LE(booked, lived);

  ASSERT_OK_AND_ASSIGN(const RunRecord record, ReadRunRecord(out.path()));
  absl::Duration told;
  for (const AttemptRecord& attempt : record.attempts) {
    if (attempt.partition != 0) continue;
    EXPECT_FALSE(attempt.between.empty());
    EXPECT_EQ(attempt.quarantine, "");
    told += wall(attempt.phases) + wall(attempt.between);
    for (const std::vector<PhaseSpan>* spans : {&attempt.phases, &attempt.between}) {
      for (const PhaseSpan& span : *spans) EXPECT_EQ(span.energy.tier, EnergyTier::kGeneric) << PhaseName(span.phase);
    }
  }
  EXPECT_GT(told, absl::ZeroDuration());
  EXPECT_LE(told, booked);
  ASSERT_FALSE(record.rounds.empty());
  absl::Duration coordinated;
  for (const RoundRecord& round : record.rounds) {
    coordinated += wall(round.server_phases);
    EXPECT_EQ(round.server_energy.energy, SumOfSpans(round.server_phases).energy);
  }
  const absl::Duration ran = record.rounds.back().finished_at - record.rounds.front().started_at;
  EXPECT_GE(coordinated, 0.99 * ran);
}

TEST(LedgerTest, WhatAClientBooksIsWhatTheCoordinatorAnchors) {
  Folder out, state;
  ServerOptions options = FederationOptions(out.path());
  options.engine.clients_per_round = kMembers;
  RunningServer server(std::move(options));
  ClientOptions kept = OptionsFor(server.address(), out.path(), {0, 1});
  kept.state_directory = state.path();
  kept.meter = "cpu_time";
  kept.site = "hall";
  kept.carbon = std::make_shared<const CarbonModel>(*CarbonModel::Create({*ParseCarbonSite("hall g_per_kwh=300")}, {}, IntensityKind::kAverage, std::nullopt));
  RunningClient with(std::move(kept)), without(OptionsFor(server.address(), out.path(), {2, 3}));
  EXPECT_THAT(with.Wait(), IsOk());
  EXPECT_THAT(without.Wait(), IsOk());
  EXPECT_THAT(server.Wait().status, IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord run, ReadRunRecord(out.path()));
  int anchored = 0;
  for (int64_t partition : {0, 1}) {
    ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(absl::StrCat(state.path(), "/ledger-", partition)));
    ASSERT_OK_AND_ASSIGN(std::vector<LedgerEntry> entries, ReadLedger(text, "ledger"));
    EXPECT_EQ(entries.size(), 5u) << "four attempts, and the time after the last";
    EXPECT_EQ(entries.back().attempt, "");
    EXPECT_THAT(entries[0].payload, HasSubstr("\"operational_ug\":"));
    EXPECT_THAT(entries[0].payload, ::testing::Not(HasSubstr("\"operational_ug\":null")));
    for (const AttemptRecord& attempt : run.attempts) {
      if (attempt.partition != partition) continue;
      EXPECT_EQ(attempt.quarantine, "");
      ASSERT_TRUE(attempt.ledger_sequence.has_value());
      const LedgerEntry& entry = entries.at(static_cast<size_t>(*attempt.ledger_sequence - 1));
      EXPECT_EQ(entry.attempt, attempt.attempt);
      EXPECT_EQ(entry.position.head.Hex(), attempt.ledger_head);
      ++anchored;
    }
  }
  EXPECT_EQ(anchored, 8);
  for (const RoundRecord& round : run.rounds) EXPECT_NE(round.ledger_root, "");
}

}  // namespace
}  // namespace fedwatt::testing
