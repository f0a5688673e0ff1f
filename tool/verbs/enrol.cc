// fedwatt enrol: an identity for a device that does not share the coordinator's security directory.
#include "fedwatt/client/enrol.h"

#include <iostream>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  EnrolOptions enrol;
};

absl::StatusOr<ExitCode> Run(const Options& options) {
  EnrolOptions enrol = options.enrol;
  if (enrol.token == "-" && !std::getline(std::cin, enrol.token)) {
    return WithExitCode(absl::InvalidArgumentError("--token -: standard input holds no token"), ExitCode::kUsage);
  }
  enrol.log = [](LogLevel level, std::string_view message) { Say(message); };
  FEDWATT_ASSIGN_OR_RETURN(std::string client_id, EnrolIdentity(enrol));
  Print(client_id + "\n");
  return ExitCode::kDone;
}

}  // namespace

void AddEnrol(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "enrol", "gets this device an identity with a one-time token", Run);
  EnrolOptions& enrol = options->enrol;
  verb->add_option("--server", enrol.server, "the coordinator's address and port")->type_name("ADDRESS")->required();
  verb->add_option("--token", enrol.token,
                   "from `fedwatt keys token`; - reads it from standard input, which other users cannot see")
      ->type_name("TOKEN")
      ->required();
  verb->add_option("--directory", enrol.directory, "where the identity goes; use it as security.directory afterwards")
      ->type_name("DIR")
      ->required();
  verb->add_option("--name", enrol.name, "what people call this device")->type_name("NAME");
}

}  // namespace fedwatt::tool
