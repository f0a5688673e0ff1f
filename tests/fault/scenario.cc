#include "tests/fault/scenario.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace fedwatt::testing {

Scenario ExpandSeed(uint64_t seed) {
  Random random(DeriveSeed("scenario", {seed}));
  const auto chance = [&](double probability) { return random.Uniform() < probability; };
  // Small numbers as likely as large ones; none at all as often as `never` says: what hides behind a frequent fault shows where that is absent.
  const auto some = [&](double never, double least, double most) { return chance(never) ? 0.0 : least * std::pow(most / least, random.Uniform()); };
  Scenario s;
  s.seed = seed;
  s.clients = 6 + static_cast<int64_t>(random.Below(4));
  s.clients_per_round = chance(0.3) ? 0 : 5 + static_cast<int64_t>(random.Below(static_cast<uint64_t>(s.clients - 4)));
  s.quorum = 0.2 + 0.6 * random.Uniform();
  s.over_selection = chance(0.5) ? 0 : 0.5 * random.Uniform();
  s.deadline = absl::Seconds(40 + static_cast<int64_t>(random.Below(80)));
  s.durability = chance(0.05) ? "round" : "update";
  s.journaled_update_bytes = chance(0.4) ? 0 : 1 << 20;
  s.inline_share = chance(0.2) ? 0 : random.Uniform();
  s.federated_evaluation = chance(0.3);
  s.budget = chance(0.4);
  s.longest_training = absl::Seconds(2 + static_cast<int64_t>(random.Below(30)));
  s.lost = some(0.3, 0.002, 0.15);
  s.doubled = some(0.3, 0.01, 0.3);
  s.delayed = some(0.3, 0.005, 0.2);
  s.partitions_per_hour = some(0.4, 0.5, 30);
  s.cut_stream = some(0.4, 0.005, 0.2);
  s.corrupt_chunk = some(0.5, 0.005, 0.1);
  s.half_open = some(0.3, 0.02, 0.5);
  s.trickle = some(0.5, 0.02, 0.3);
  s.sync_fails = some(0.7, 0.0005, 0.03);
  s.read_fails = some(0.8, 0.0005, 0.01);
  s.short_write = some(0.5, 0.005, 0.3);
  s.full_per_hour = some(0.5, 2, 60);
  s.flips = some(0.8, 0.05, 0.5);
  if (chance(0.02)) s.sync_lies = some(0, 0.001, 0.2);
  s.losses.clear();
  if (chance(0.2)) {
    s.losses.push_back(Loss::kNothing);
  } else {
    for (Loss loss : kLosses) {
      if (chance(0.5)) s.losses.push_back(loss);
    }
    if (s.losses.empty()) s.losses.push_back(Loss::kTorn);
  }
  s.crashes_per_hour = some(0.4, 1, 60);
  s.crash_at_point = some(0.2, 0.3, 1);
  s.crash_while_recovering = some(0.3, 0.05, 0.6);
  s.slow_worker = some(0.3, 0.02, 0.5);
  s.clock_jumps_per_hour = some(0.5, 1, 30);
  s.deaths_per_hour = some(0.4, 0.5, 20);
  s.hostile = some(0.4, 0.01, 0.15);
  s.repeats = some(0.3, 0.02, 0.4);
  return s;
}

std::string Describe(const Scenario& s) {
  std::string text = absl::StrFormat(
      "seed %d: %d clients, %d rounds of %d, quorum %.2f, spares %.2f, deadline %s, durability %s, updates %s, %.0f %% inside reports, training up to %s%s%s\n", s.seed, s.clients, s.rounds,
      s.clients_per_round, s.quorum, s.over_selection, absl::FormatDuration(s.deadline), s.durability, s.journaled_update_bytes > 0 ? "in the journal" : "as files", 100 * s.inline_share,
      absl::FormatDuration(s.longest_training), s.federated_evaluation ? ", clients score" : "", s.budget ? ", budget" : "");
  absl::StrAppendFormat(&text, "  network: lost %.3f, doubled %.3f, delayed %.3f, partitions %.1f/h, streams cut %.3f, pieces corrupt %.3f, half open %.2f, trickle %.2f\n", s.lost, s.doubled, s.delayed,
                        s.partitions_per_hour, s.cut_stream, s.corrupt_chunk, s.half_open, s.trickle);
  absl::StrAppendFormat(&text, "  disk: flush fails %.4f, flush lies %.4f, read fails %.4f, short write %.3f, full %.1f/h, bit flips %.2f a crash, lost at a crash: %s\n", s.sync_fails, s.sync_lies,
                        s.read_fails, s.short_write, s.full_per_hour, s.flips, absl::StrJoin(s.losses, ", ", [](std::string* out, Loss loss) { out->append(LossName(loss)); }));
  absl::StrAppendFormat(&text, "  coordinator: crashes %.1f/h, at a point %.2f, while recovering %.2f, slow workers %.3f, clock jumps %.1f/h\n", s.crashes_per_hour, s.crash_at_point,
                        s.crash_while_recovering, s.slow_worker, s.clock_jumps_per_hour);
  for (const CrashAt& crash : s.crashes) absl::StrAppendFormat(&text, "    at passage %d of '%s'\n", crash.passage, crash.point);
  absl::StrAppendFormat(&text, "  clients: deaths %.1f/h, hostile %.3f, repeats %.3f\n", s.deaths_per_hour, s.hostile, s.repeats);
  return text;
}

}  // namespace fedwatt::testing
