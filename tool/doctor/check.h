// What `fedwatt doctor` looks at. Each check adds one line or more and never fails the verb itself.
#ifndef FEDWATT_TOOL_DOCTOR_CHECK_H_
#define FEDWATT_TOOL_DOCTOR_CHECK_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "fedwatt/config/settings.h"

namespace fedwatt::tool {

enum class Verdict { kOk, kWarn, kFail };

struct Check {
  std::string name;
  Verdict verdict = Verdict::kOk;
  std::string detail;
  std::string remedy;  // one line; "" with kOk
};
using Checks = std::vector<Check>;

void CheckKernels(const Settings& settings, Checks& checks);       // BLAS and kernel threads
// The meter that would be used, those that work here and those that could be opened; with `all`, every meter and every source that it finds. Reads below `root`.
void CheckMeters(const Settings& settings, bool all, const std::string& root, Checks& checks);
void CheckClock(absl::Time now, Checks& checks);                   // that the year is plausible
void CheckListen(const Settings& settings, Checks& checks);        // that server.listen can be bound, or who holds it
void CheckCertificates(const Settings& settings, Checks& checks);  // security.directory
void CheckData(const Settings& settings, Checks& checks);          // data.path and data.test_path
void CheckDisk(const Settings& settings, Checks& checks);          // space for the run record
void CheckMachine(Checks& checks);                                 // cores and memory
void CheckSandbox(const Settings& settings, Checks& checks);       // what this kernel has to run archives in
#ifdef FEDWATT_HAS_GRPC
// Connection, certificates and clock of the coordinator at client.server.
void CheckServer(const Settings& settings, Checks& checks);
#endif

// Who listens on `port`, as far as /proc lets this user see. Empty: nobody does.
struct PortHolder {
  int pid = 0;       // 0: somebody whose files this user may not see
  std::string name;  // "" when pid is 0
};
std::vector<PortHolder> FindPortHolders(int port);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_DOCTOR_CHECK_H_
