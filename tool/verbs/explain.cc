// fedwatt explain: exit codes in words.
#include <optional>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  std::optional<int> code;
};

absl::StatusOr<ExitCode> Run(const Options& options) {
  if (!options.code) {
    std::vector<std::vector<std::string>> rows;
    for (const ExitCodeExplanation& known : ExitCodeExplanations()) {
      rows.push_back({absl::StrCat(static_cast<int>(known.code)), known.name, known.cause});
    }
    Print(Columns(rows));
    return ExitCode::kDone;
  }
  absl::StatusOr<ExitCodeExplanation> found = ExplainExitCode(*options.code);
  if (!found.ok()) return WithExitCode(found.status(), ExitCode::kUsage);
  Print(absl::StrCat(*options.code, ": ", found->name, "\ncause:  ", found->cause, "\nremedy: ", found->remedy, "\n"));
  return ExitCode::kDone;
}

}  // namespace

void AddExplain(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "explain", "what an exit code means and what to do about it", Run);
  verb->add_option("CODE", options->code, "exit code of any Fedwatt binary; without it, all are listed");
}

}  // namespace fedwatt::tool
