#include "fedwatt/rpc/socket_byte_counter.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdlib>

namespace fedwatt {
namespace {

int PortOf(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return -1;
}

// Of one segment without data.
int64_t HeaderBytes(const sockaddr_storage& peer, const tcp_info& tcp) {
  const bool ip4 = peer.ss_family == AF_INET || IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr);
  return (ip4 ? 20 : 40) + 20 + ((tcp.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0 ? 12 : 0);
}

}  // namespace

std::optional<WireBytes> SocketByteCounter::Read() {
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) return std::nullopt;
  bool counted = true;
  std::map<uint64_t, WireBytes> now;
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    // A listening socket has no peer, so it never matches.
    sockaddr_storage peer{};
    socklen_t peer_length = sizeof(peer);
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0) continue;
    if (peer_) {
      address = peer;
    } else if (::getsockname(fd, raw, &length) != 0) {
      continue;
    }
    if (PortOf(address) != port_) continue;
    struct stat info;
    tcp_info tcp{};
    socklen_t tcp_length = sizeof(tcp);
    if (::fstat(fd, &info) != 0 || ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &tcp_length) != 0) continue;
    if (tcp_length < offsetof(tcp_info, tcpi_bytes_sent) + sizeof(tcp.tcpi_bytes_sent)) {
      counted = false;
      break;
    }
    const int64_t header = HeaderBytes(peer, tcp);
    now[info.st_ino] = {static_cast<int64_t>(tcp.tcpi_bytes_sent), static_cast<int64_t>(tcp.tcpi_bytes_received), header * tcp.tcpi_segs_out, header * tcp.tcpi_segs_in};
  }
  ::closedir(folder);
  if (!counted) return std::nullopt;
  for (const auto& [inode, bytes] : open_) {
    if (!now.contains(inode)) closed_ += bytes;
  }
  open_ = std::move(now);
  WireBytes total = closed_;
  for (const auto& [inode, bytes] : open_) total += bytes;
  return total;
}

}  // namespace fedwatt
