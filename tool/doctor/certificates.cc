#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "doctor/check.h"
#include "security_files.h"

namespace fedwatt::tool {
namespace {

// The coordinator renews its own certificates when it starts within this time of their end.
constexpr absl::Duration kRenewBefore = absl::Hours(24 * 30);

}  // namespace

void CheckCertificates(const Settings& settings, Checks& checks) {
  const std::string& directory = settings.security.directory;
  if (settings.security.insecure) {
    checks.push_back({"security", Verdict::kWarn, "--insecure: no TLS, no identities", "leave --insecure out"});
    return;
  }
  if (::access(directory.c_str(), F_OK) != 0) {
    checks.push_back({"security", Verdict::kOk, directory + " is not there yet; the coordinator makes it at its first start"});
    return;
  }
  absl::StatusOr<std::vector<SecurityFile>> files = ListSecurityFiles(directory);
  if (!files.ok()) {
    checks.push_back({"security", Verdict::kFail, std::string(files.status().message()), "run as the user who owns the folder"});
    return;
  }
  bool ready = false;
  for (const SecurityFile& file : *files) {
    ready |= file.name == "ready";
    const std::string name = absl::StrCat("security ", file.name);
    const std::string path = file.name == "." ? directory : absl::StrCat(directory, "/", file.name);
    if (file.exposed()) {
      const bool folder = file.name == "." || file.name == "enrolled";
      checks.push_back({name, folder ? Verdict::kWarn : Verdict::kFail, absl::StrFormat("mode %04o lets others in", file.mode),
                        absl::StrCat("chmod go= ", path)});
    }
    if (!file.problem.empty())
      checks.push_back({name, Verdict::kFail, file.problem, "restore the file, or move the folder away to start anew"});
    if (!file.certificate) continue;
    const CertificateFacts& facts = *file.certificate;
    const absl::Duration left = facts.not_after - absl::Now();
    const std::string detail = absl::StrCat(facts.subject, facts.names.empty() ? "" : " for ", absl::StrJoin(facts.names, ", "),
                                            ", until ", absl::FormatTime("%Y-%m-%d", facts.not_after, absl::UTCTimeZone()));
    if (left >= kRenewBefore)
      checks.push_back({name, Verdict::kOk, detail});
    else
      checks.push_back({name, left <= absl::ZeroDuration() ? Verdict::kFail : Verdict::kWarn, detail,
                        "a running coordinator renews its own, a running client its own; what has expired is enrolled anew"});
  }
  if (!ready) {
    checks.push_back({"security", Verdict::kFail, directory + " is unfinished: no file `ready`",
                      "start the coordinator with it once, or move it away"});
  }
}

}  // namespace fedwatt::tool
