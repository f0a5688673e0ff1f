// fedwatt audit-log verify: whether a coordinator's log of refusals and operators' actions is what was written.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/base/status_macros.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Flags {
  std::string file, head;
};

absl::StatusOr<ExitCode> Verify(const Flags& flags) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.file));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<ChainEntry> entries, ReadHashChain(text, flags.file));
  Say(absl::StrCat(flags.file, ": ", entries.size(), " lines, each hash fits"));
  if (!entries.empty()) Print(entries.back().position.head.Hex() + "\n");
  if (flags.head.empty()) {
    Say("what may be missing at its end shows only against a hash that was printed before: --contains HASH");
    return ExitCode::kDone;
  }
  for (const ChainEntry& entry : entries) {
    if (entry.position.head.Hex() != flags.head) continue;
    Say(absl::StrCat("the hash given is that of line ", entry.position.sequence, ": nothing up to it has changed"));
    return ExitCode::kDone;
  }
  return WithExitCode(absl::DataLossError(absl::StrCat(flags.file, ": no line has the hash given: it was cut off, or written anew")), ExitCode::kDamagedState);
}

}  // namespace

void AddAuditLog(CLI::App& app, Action& chosen) {
  CLI::App* log = app.add_subcommand("audit-log", "a coordinator's log of refusals and of operators' actions");
  log->require_subcommand(1);
  auto [verify, flags] = Declare<Flags>(*log, chosen, "verify", "finds any byte that was changed; prints the last line's hash", Verify);
  verify->add_option("FILE", flags->file, "audit.log of a coordinator's --out folder")->required();
  verify->add_option("--contains", flags->head, "a hash that an earlier verification printed: the log must still hold its line")->type_name("HASH");
}

}  // namespace fedwatt::tool
