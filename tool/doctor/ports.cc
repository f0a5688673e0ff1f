#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "doctor/check.h"
#include "fedwatt/base/file.h"

namespace fedwatt::tool {
namespace {

constexpr char kListening[] = "0A";  // the kernel's TCP_LISTEN

// Inodes of the sockets that listen on `port`. A line of /proc/net/tcp: "sl local:port remote:port state tx:rx tr:when retry uid
// timeout inode".
std::set<std::string> ListeningInodes(int port) {
  std::set<std::string> inodes;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    absl::StatusOr<std::string> text = ReadFile(table);
    if (!text.ok()) continue;
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (fields.size() < 10 || fields[3] != kListening) continue;
      uint32_t found = 0;
      if (absl::SimpleHexAtoi(fields[1].substr(fields[1].rfind(':') + 1), &found) && static_cast<int>(found) == port)
        inodes.insert(fields[9]);
    }
  }
  return inodes;
}

bool Holds(const std::filesystem::path& process, const std::set<std::string>& links) {
  std::error_code error;
  for (std::filesystem::directory_iterator fd(process / "fd", error), end; !error && fd != end; fd.increment(error)) {
    std::error_code unreadable;
    if (links.count(std::filesystem::read_symlink(fd->path(), unreadable).string())) return true;
  }
  return false;
}

// OK, or why `host`:`port` cannot be bound. An empty host is every address.
absl::Status TryBind(const std::string& host, const std::string& port) {
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(::gai_strerror(error));
  }
  absl::Cleanup free = [found] { ::freeaddrinfo(found); };
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoStatus(errno, "socket");
  absl::Cleanup close = [fd] { ::close(fd); };
  const int yes = 1;  // as gRPC does: a port in TIME_WAIT is free
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (::bind(fd, found->ai_addr, found->ai_addrlen) != 0 || ::listen(fd, 1) != 0) {
    if (errno == EADDRINUSE) return absl::AlreadyExistsError("in use");
    return ErrnoStatus(errno, "bind");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<PortHolder> FindPortHolders(int port) {
  std::set<std::string> links;
  for (const std::string& inode : ListeningInodes(port)) links.insert(absl::StrCat("socket:[", inode, "]"));
  std::vector<PortHolder> holders;
  if (links.empty()) return holders;
  std::error_code error;
  for (std::filesystem::directory_iterator process("/proc", error), end; !error && process != end; process.increment(error)) {
    PortHolder holder;
    if (!absl::SimpleAtoi(process->path().filename().string(), &holder.pid) || !Holds(process->path(), links)) continue;
    holder.name = std::string(absl::StripAsciiWhitespace(ReadFile((process->path() / "comm").string()).value_or("unknown")));
    holders.push_back(std::move(holder));
  }
  if (holders.empty()) holders.push_back({});
  return holders;
}

void CheckListen(const Settings& settings, Checks& checks) {
  const std::string& address = settings.server.listen;
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    checks.push_back(
        {"port", Verdict::kFail, absl::StrCat("server.listen '", address, "': expected host:port"), "correct server.listen"});
    return;
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const absl::Status bound = TryBind(host, absl::StrCat(port));
  if (bound.ok()) {
    checks.push_back({"port", Verdict::kOk, address + " can be listened on"});
  } else if (!absl::IsAlreadyExists(bound)) {
    checks.push_back({"port", Verdict::kFail, absl::StrCat(address, ": ", std::string(bound.message())),
                      absl::IsPermissionDenied(bound) ? "choose a port above 1023 in server.listen"
                                                      : "name an address of this machine in server.listen"});
  } else {
    const std::vector<PortHolder> holders = FindPortHolders(port);
    bool ours = !holders.empty();
    std::vector<std::string> names;
    for (const PortHolder& holder : holders) {
      ours &= holder.name == "fedwatt-server";
      names.push_back(holder.pid == 0 ? "another user's process" : absl::StrCat(holder.name, " (pid ", holder.pid, ")"));
    }
    checks.push_back({"port", ours ? Verdict::kWarn : Verdict::kFail,
                      absl::StrCat(address, " is held by ", names.empty() ? "an unknown process" : absl::StrJoin(names, ", ")),
                      ours ? "nothing to do if that coordinator is meant to run; else stop it"
                           : "stop that process, or choose another port in server.listen"});
  }
}

}  // namespace fedwatt::tool
