#include "tests/fault/crash_points.h"

#include "absl/strings/str_cat.h"

namespace fedwatt::testing {
namespace {

// Five clients, all of whom every round wants, and nothing else goes wrong.
Scenario QuietScenario(uint64_t seed) {
  Random random(DeriveSeed("quiet", {seed}));
  Scenario scenario;
  scenario.seed = seed;
  scenario.clients = 5;
  scenario.clients_per_round = 0;
  scenario.rounds = 2;
  scenario.quorum = 1;
  scenario.deadline = absl::Minutes(10);
  scenario.longest_training = absl::Seconds(1 + static_cast<int64_t>(random.Below(8)));
  scenario.inline_share = random.Uniform();
  scenario.journaled_update_bytes = random.Below(2) == 0 ? 0 : 1 << 20;
  scenario.same_work = true;
  scenario.faults_until = absl::Hours(2);
  scenario.faults_until_round = 3;
  return scenario;
}

}  // namespace

std::vector<CrashPoint> CrashPoints() {
  // The database commits once when the run is opened, then at the opening and at the end of each round.
  return {
      {"C01_upload_opened", {{"upload_opened", 3}}, true},
      {"C02_mid_upload", {{"upload_chunk_written", 7}}, true},
      {"C03_last_piece_unhashed", {{"upload_hashing", 4}}, true},
      {"C04_update_valid", {{"update_folded", 3}}},
      {"C05_file_flushed", {{"update_synced", 1}}, true, true},
      {"C06_later_file_flushed", {{"update_synced", 4}}, true, true},  // a file bears its name from the start: there is no rename
      {"C07_folder_flushed", {{"update_folder_synced", 2}}, true, true},
      {"C08_record_written", {{"journal_appended", 2}}},
      {"C09_record_torn", {{"journal_half_written", 2}}},
      {"C10_record_flushed", {{"journal_synced", 2}}},
      {"C11_acknowledged", {{"update_acknowledged", 3}}},
      {"C12_quorum_reached", {{"update_folded", 5}}},
      {"C13_round_closed", {{"round_closed", 1}}},
      {"C14_folding", {{"folding", 4}}},
      {"C15_round_opening", {{"database_committing", 2}}},  // the sum has no snapshots; what a round starts from has
      {"C16_round_opened", {{"round_opened", 2}}},
      {"C20_model_half_staged", {{"file_half_written@global-1.state", 1}}},
      {"C21_model_staged", {{"file_renamed@global-2.state", 1}}},
      {"C22_round_committing", {{"database_committing", 3}}},
      {"C23_round_committed", {{"round_committed", 1}}},
      {"C24_recovering", {{"update_acknowledged", 2}, {"round_resumed", 1}}},
  };
}

std::string CrashCell::Name() const { return absl::StrCat(point.name, nested ? ", again while recovering" : "", ", lost: ", std::string(LossName(loss))); }

CrashCellResult RunCrashCell(const CrashCell& cell, uint64_t first_seed, int64_t seeds) {
  CrashCellResult result;
  for (uint64_t seed = first_seed; seed < first_seed + static_cast<uint64_t>(seeds); ++seed) {
    Scenario scenario = QuietScenario(seed);
    if (cell.point.uploads) scenario.inline_share = 0;
    if (cell.point.files) scenario.journaled_update_bytes = 0;
    // Its work is the same whichever way it comes.
    static auto* known = new std::map<uint64_t, SimulationResult>;
    auto [found, fresh] = known->try_emplace(seed);
    if (fresh) found->second = Simulate(scenario);
    const SimulationResult& undisturbed = found->second;
    scenario.losses = {cell.loss};
    scenario.crashes = cell.point.crashes;
    // Where it reads what there is, or at some change that it makes there.
    if (cell.nested) scenario.crashes.push_back(seed % 3 == 0 ? CrashAt{"recovering", 1} : CrashAt{"", 1 + static_cast<int64_t>(seed % 7)});
    const SimulationResult crashed = Simulate(scenario);
    ++result.runs;
    result.crashed += crashed.crashes == static_cast<int64_t>(scenario.crashes.size());
    const auto fail = [&](const std::string& what) { result.failures.push_back(absl::StrCat("seed ", seed, ": ", what)); };
    for (const std::string& violation : undisturbed.violations) fail(absl::StrCat("undisturbed: ", violation));
    for (const std::string& violation : crashed.violations) fail(violation);
    if (undisturbed.digests.size() != 2 || crashed.digests != undisturbed.digests) fail("the models are not those of the undisturbed run");
    if (crashed.accepted != undisturbed.accepted) fail("not every update counts");
  }
  return result;
}

}  // namespace fedwatt::testing
