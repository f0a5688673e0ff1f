// A networked run commits what the simulated one commits, and says as much in as many bytes, for every registered codec, transform and packer, up and
// down. A new one is found here with no edit.
#include <algorithm>
#include <set>

#include "absl/strings/str_split.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/round/compression_settings.h"
#include "fedwatt/round/model_chain.h"
#include "gmock/gmock.h"
#include "tests/integration/federation.h"

namespace fedwatt::testing {
namespace {

using ::testing::IsSupersetOf;

struct Case {
  std::string uplink, downlink;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.uplink << " / " << c.downlink; }
};

// The shortest pipelines with each registered stage, options left at their defaults.
std::vector<std::string> PlainPipelines() {
  std::vector<std::string> specs = Codecs().Names();
  for (const std::string& transform : Transforms().Names()) {
    for (const char* codec : {"float32", "int8"}) specs.push_back(absl::StrCat(transform, ",", codec));
  }
  for (const std::string& packer : Packers().Names()) specs.push_back(absl::StrCat("bfloat16,", packer));
  return specs;
}

// Spellings in which stages behave otherwise than by default, and long pipelines.
const char* const kMoreUplinks[] = {"ecsq:rate=0.7",        "dithered:rate=0.6",      "ecsq:distortion=0.05",         "ef,ecsq:multiple=4",
                                    "ef,ternary:clip=2.5",  "sign:scale=unbiased",    "ef,random_k:fraction=0.3:scale=none,int8",
                                    "ef,top_k:fraction=0.2,rotate,int4,zstd:level=3", "dct,dithered:multiple=4"};
const char* const kChains[] = {"chain:multiple=0.3",          "chain:multiple=1.8:transform=none", "chain:step=0.015625",
                               "chain:rate=0.5",              "chain:multiple=0.3:length=2",       "chain:rate=0.3:length=1:transform=none"};

std::vector<Case> Cases() {
  std::vector<std::string> up, down;
  for (const std::string& spec : PlainPipelines()) {
    up.push_back(spec);
    if (const std::string fed_back = absl::StrCat("ef,", spec); Pipeline::Create(fed_back).ok()) up.push_back(fed_back);
    down.push_back(spec);
  }
  up.insert(up.end(), std::begin(kMoreUplinks), std::end(kMoreUplinks));
  down.insert(down.end(), std::begin(kChains), std::end(kChains));
  // Each downlink meets another uplink than its own; the shorter list is repeated.
  std::vector<Case> cases;
  for (size_t i = 0; i < std::max(up.size(), down.size()); ++i) cases.push_back({up[i % up.size()], down[down.size() - 1 - i % down.size()]});
  return cases;
}

TEST(IdenticalRunsCasesTest, CoverEveryStageBothWays) {
  std::set<std::string> up, down;
  for (const Case& c : Cases()) {
    EXPECT_THAT(CheckUplink(c.uplink), IsOk()) << c.uplink;
    EXPECT_THAT(CheckDownlink(c.downlink), IsOk()) << c.downlink;
    for (absl::string_view stage : absl::StrSplit(c.uplink, ',')) up.insert(std::string(stage.substr(0, stage.find(':'))));
    for (absl::string_view stage : absl::StrSplit(c.downlink, ',')) down.insert(std::string(stage.substr(0, stage.find(':'))));
  }
  EXPECT_THAT(up, IsSupersetOf(StageNames()));
  for (const auto& names : {Codecs().Names(), Transforms().Names(), Packers().Names(), {std::string(kChainStage)}}) EXPECT_THAT(down, IsSupersetOf(names));
}

class IdenticalRunsTest : public ::testing::TestWithParam<Case> {};

TEST_P(IdenticalRunsTest, ModelsAndBytesAreTheFleets) {
  constexpr int64_t kWide = 40, kRounds = 5;
  Folder out;
  ServerOptions options = FederationOptions(out.path(), kWide);
  options.insecure = true;
  options.engine.rounds = kRounds;  // three of four members each: one stays behind with its residual and its model
  options.model.plan.uplink_codec = GetParam().uplink;
  options.model.plan.downlink_codec = GetParam().downlink;
  options.model.initial_from_seed = true;
  FleetOptions twin = TwinOf(options);
  twin.initial_model.clear();  // made from the seed, so that nobody downloads it
  const std::vector<RoundRecord> expected = Simulate(std::move(twin));
  ASSERT_EQ(expected.size(), static_cast<size_t>(kRounds));

  RunningServer server(std::move(options));
  std::vector<std::unique_ptr<RunningClient>> clients;
  for (int64_t i = 0; i < kMembers; ++i) {
    ClientOptions client = OptionsFor(server.address(), out.path(), {i}, kWide);
    client.connection.insecure = true;
    clients.push_back(std::make_unique<RunningClient>(std::move(client)));
  }
  EXPECT_EQ(server.Wait().committed_rounds, kRounds);
  for (auto& client : clients) EXPECT_THAT(client->Wait(), IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  ASSERT_EQ(record.rounds.size(), expected.size());
  std::set<std::string> versions;
  for (size_t i = 0; i < expected.size(); ++i) {
    const RoundRecord& round = record.rounds[i];
    EXPECT_EQ(round.model_digest, expected[i].model_digest) << "round " << i + 1;
    EXPECT_EQ(round.uplink_payload_bytes, expected[i].uplink_payload_bytes) << "round " << i + 1;
    EXPECT_EQ(round.downlink_payload_bytes, expected[i].downlink_payload_bytes) << "round " << i + 1;
    EXPECT_EQ(round.clients_completed, 3) << "round " << i + 1;
    versions.insert(round.model_digest);
  }
  EXPECT_GT(versions.size(), 1u) << "the model stands still, and any two runs are alike";
}

INSTANTIATE_TEST_SUITE_P(Pipelines, IdenticalRunsTest, ::testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name;
  for (char c : info.param.uplink + "_down_" + info.param.downlink) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace fedwatt::testing
