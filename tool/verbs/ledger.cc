// fedwatt ledger verify: whether a client's ledger is what it was, and what the coordinator anchored of it.
#include <map>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/ledger.h"
#include "fedwatt/report/run_record.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Flags {
  std::string file, record;
};

absl::Status Damaged(const std::string& message) { return WithExitCode(absl::DataLossError(message), ExitCode::kDamagedState); }

absl::StatusOr<ExitCode> Verify(const Flags& flags) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.file));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<LedgerEntry> entries, ReadLedger(text, flags.file));
  Say(absl::StrCat(flags.file, ": ", entries.size(), " records, each hash fits"));
  if (flags.record.empty()) {
    Say("what may be missing at its end shows only against a coordinator's record: --record DIR");
    return ExitCode::kDone;
  }
  FEDWATT_ASSIGN_OR_RETURN(const RunRecord run, ReadRunRecord(flags.record));
  std::map<std::string, const LedgerEntry*> by_attempt;
  for (const LedgerEntry& entry : entries) by_attempt[entry.attempt] = &entry;
  // The coordinator's own lines first: its heads are as good as the roots that its rounds hold of them.
  std::map<int64_t, std::vector<AttemptRecord>> rounds;
  std::string client;
  int64_t partition = 0;
  for (const AttemptRecord& attempt : run.attempts) {
    rounds[attempt.round].push_back(attempt);
    if (!by_attempt.contains(attempt.attempt)) continue;
    client = attempt.client;
    partition = attempt.partition;
  }
  for (const RoundRecord& round : run.rounds) {
    if (round.ledger_root != LedgerRoot(rounds[round.round])) {
      return Damaged(absl::StrCat(flags.record, ": round ", round.round, ": the anchored heads in clients.jsonl are not those that rounds.jsonl has the root of"));
    }
  }
  if (client.empty()) return Damaged(absl::StrCat(flags.file, " holds none of the attempts of ", flags.record));
  int64_t anchored = 0;
  for (const AttemptRecord& attempt : run.attempts) {
    if (attempt.client != client || attempt.partition != partition || !attempt.ledger_sequence) continue;
    const std::string where = absl::StrCat(flags.file, ": attempt ", attempt.attempt, ", record ", *attempt.ledger_sequence, ": ");
    if (static_cast<size_t>(*attempt.ledger_sequence) > entries.size()) return Damaged(where + "anchored by the coordinator, and not there any more");
    const LedgerEntry& entry = entries[static_cast<size_t>(*attempt.ledger_sequence - 1)];
    if (entry.attempt != attempt.attempt || entry.position.head.Hex() != attempt.ledger_head) return Damaged(where + "not the one that the coordinator anchored");
    ++anchored;
  }
  Say(absl::StrCat(anchored, " of them anchored as ", client, " in ", flags.record, ", and the same there"));
  return ExitCode::kDone;
}

}  // namespace

void AddLedger(CLI::App& app, Action& chosen) {
  CLI::App* ledger = app.add_subcommand("ledger", "a client's own books of joules");
  ledger->require_subcommand(1);
  auto [verify, flags] = Declare<Flags>(*ledger, chosen, "verify", "finds any byte that was changed", Verify);
  verify->add_option("FILE", flags->file, "ledger-N of a client's state directory")->required();
  verify->add_option("--record", flags->record, "the coordinator's --out folder, whose heads must be the ledger's")->type_name("DIR");
}

}  // namespace fedwatt::tool
