// fedwatt keys: the security directory and enrolment tokens. Key material is never printed; a token is, because it is the answer.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/client/operator_client.h"
#include "fedwatt/rpc/security.h"
#include "security_files.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct ShowOptions {
  std::string directory;
  Format format = Format::kText;
};

absl::StatusOr<ExitCode> RunShow(const ShowOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(std::vector<SecurityFile> files, ListSecurityFiles(options.directory));
  std::vector<std::vector<std::string>> rows = {{"mode", "file", "subject", "expires", "names"}};
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  bool token = false;
  for (const SecurityFile& file : files) {
    token |= file.name == "enrolment_token";
    const std::string mode = absl::StrFormat("%04o%s", file.mode, file.exposed() ? " too open" : "");
    nlohmann::ordered_json item = {
        {"file", file.name}, {"mode", absl::StrFormat("%04o", file.mode)}, {"too_open", file.exposed()}};
    if (file.certificate) {
      const std::string expiry = absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", file.certificate->not_after, absl::UTCTimeZone());
      rows.push_back({mode, file.name, file.certificate->subject, expiry, absl::StrJoin(file.certificate->names, " ")});
      item.update({{"subject", file.certificate->subject}, {"expires_at", expiry}, {"names", file.certificate->names}});
    } else {
      rows.push_back({mode, file.name, file.problem});
      if (!file.problem.empty()) item["problem"] = file.problem;
    }
    items.push_back(item);
  }
  if (options.format == Format::kJson) {
    Print(nlohmann::ordered_json{{"schema", "fedwatt.keys.v1"}, {"token_present", token}, {"files", items}}.dump(
              2, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
  } else {
    Print(Columns(rows));
    Say(token ? "an enrolment token is there" : "no enrolment token is there");
  }
  return ExitCode::kDone;
}

struct InitOptions {
  ShowOptions show;
  std::vector<std::string> names;
};

absl::StatusOr<ExitCode> RunInit(const InitOptions& options) {
  FEDWATT_RETURN_IF_ERROR(SecurityDirectory::CreateOrOpen(options.show.directory, options.names).status());
  return RunShow(options.show);
}

struct TokenOptions {
  ConnectionFlags connection;
  std::string lifetime = "24h";
  std::string role = "client";
};

absl::StatusOr<ExitCode> RunToken(const TokenOptions& options) {
  absl::Duration lifetime;
  if (!absl::ParseDuration(options.lifetime, &lifetime) || lifetime <= absl::ZeroDuration() || lifetime > absl::Hours(30 * 24)) {
    return WithExitCode(
        absl::InvalidArgumentError(absl::StrCat("--lifetime: expected a duration in (0, 720h], got '", options.lifetime, "'")),
        ExitCode::kUsage);
  }
  FEDWATT_ASSIGN_OR_RETURN(ConnectionOptions connection, Resolve(options.connection));
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<OperatorClient> client, OperatorClient::Create(connection));
  FEDWATT_ASSIGN_OR_RETURN(IssuedToken token, client->IssueToken(lifetime, options.role));
  Print(token.token + "\n");
  Say(absl::StrCat("good for one enrolment until ",
                   absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", token.expiry_time, absl::UTCTimeZone()),
                   "; on the device: fedwatt enrol --server ", connection.server, " --token - --directory DIR"));
  return ExitCode::kDone;
}

struct RenewOptions {
  std::string directory;
};

absl::StatusOr<ExitCode> RunRenew(const RenewOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<SecurityDirectory> directory, SecurityDirectory::CreateOrOpen(options.directory, {}));
  FEDWATT_RETURN_IF_ERROR(directory->RenewNow());
  Say("server.pem and client.pem are new; a running coordinator takes its own up within seconds");
  return ExitCode::kDone;
}

struct RevokeOptions {
  ConnectionFlags connection;
  std::string name, directory;
};

absl::StatusOr<ExitCode> RunRevoke(const RevokeOptions& options) {
  if (options.directory.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(ConnectionOptions connection, Resolve(options.connection));
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<OperatorClient> client, OperatorClient::Create(connection));
    FEDWATT_RETURN_IF_ERROR(client->Revoke(options.name));
    Say(absl::StrCat(options.name, " is refused from now on"));
  } else {
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<SecurityDirectory> directory, SecurityDirectory::CreateOrOpen(options.directory, {}));
    FEDWATT_RETURN_IF_ERROR(directory->Revoke(options.name));
    Say(absl::StrCat(options.name, " is refused by coordinators of ", options.directory, ", by running ones within seconds"));
  }
  return ExitCode::kDone;
}

}  // namespace

void AddKeys(CLI::App& app, Action& chosen) {
  CLI::App* keys = app.add_subcommand("keys", "the security directory and enrolment tokens");
  keys->require_subcommand(1);

  auto [init, init_options] = Declare<InitOptions>(
      *keys, chosen, "init", "makes what a security directory lacks, as a coordinator's first start does", RunInit);
  init->add_option("DIR", init_options->show.directory, "the security directory")->required();
  init->add_option("--names", init_options->names, "more names and addresses for the server's certificate, separated by commas")
      ->type_name("NAME,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  AddFormat(init, init_options->show.format);

  auto [show, show_options] =
      Declare<ShowOptions>(*keys, chosen, "show", "what a security directory holds; no key material", RunShow);
  show->add_option("DIR", show_options->directory, "the security directory")->required();
  AddFormat(show, show_options->format);

  auto [token, token_options] =
      Declare<TokenOptions>(*keys, chosen, "token", "asks a running coordinator for a new one-time enrolment token", RunToken);
  AddConnection(token, token_options->connection);
  token->add_option("--lifetime", token_options->lifetime, "how long it may be used, at most 720h; default 24h")
      ->type_name("DURATION");
  token->add_option("--role", token_options->role, "what its holder may do: client, operator or read_only; default client")->type_name("ROLE");

  auto [renew, renew_options] = Declare<RenewOptions>(
      *keys, chosen, "renew", "new keys and certificates for the coordinator and the local client now, as when somebody may have read the old ones", RunRenew);
  renew->add_option("DIR", renew_options->directory, "the security directory")->required();

  auto [revoke, revoke_options] = Declare<RevokeOptions>(*keys, chosen, "revoke", "refuses an enrolled name from now on, on open connections too", RunRevoke);
  revoke->add_option("NAME", revoke_options->name, "as `fedwatt enrol` printed it: device-..., operator-... or reader-...")->required();
  revoke->add_option("--directory", revoke_options->directory, "write it into this security directory instead of asking a running coordinator")->type_name("DIR");
  AddConnection(revoke, revoke_options->connection);
}

}  // namespace fedwatt::tool
