// Bytes on the wire, as the kernel counted them.
#ifndef FEDWATT_RPC_SOCKET_BYTE_COUNTER_H_
#define FEDWATT_RPC_SOCKET_BYTE_COUNTER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace fedwatt {

struct WireBytes {
  int64_t sent = 0;      // TCP payload bytes, retransmissions included; TLS and HTTP/2 framing included, IP and TCP headers not
  int64_t received = 0;  // likewise, what arrived twice counted once
  // IP and TCP headers of all segments, acknowledgements too: the kernel's count of segments (after segmentation offload), times 20 (IPv4) or 40 (IPv6) and 20, and 12
  // where the connection has timestamps. Options of opening (8 bytes) and selective acknowledgements are not in it, nor frames of the link (Ethernet: 14 and up).
  int64_t sent_headers = 0, received_headers = 0;

  WireBytes& operator+=(const WireBytes& more) {
    sent += more.sent;
    received += more.received;
    sent_headers += more.sent_headers;
    received_headers += more.received_headers;
    return *this;
  }
};

// Sums TCP_INFO over this process's own TCP sockets of one port. gRPC gives no access to its sockets, so they are found under
// /proc/self/fd: one Read costs a few microseconds a descriptor. A connection that closed between two Reads loses the bytes since the Read
// before; so read at least at the start and at the end of what is measured. Owned by one thread.
class SocketByteCounter {
 public:
  // Connections of this process to `port` of any peer: a client's.
  static SocketByteCounter ToPeerPort(int port) { return SocketByteCounter(port, /*peer=*/true); }
  // Connections that this process accepted on its own `port`: a server's.
  static SocketByteCounter OnLocalPort(int port) { return SocketByteCounter(port, /*peer=*/false); }

  // Totals of all connections seen so far, closed ones included; grows only. nullopt where the kernel does not count bytes
  // (before Linux 4.19, other systems).
  std::optional<WireBytes> Read();

 private:
  SocketByteCounter(int port, bool peer) : port_(port), peer_(peer) {}

  int port_;
  bool peer_;
  std::map<uint64_t, WireBytes> open_;  // by socket inode
  WireBytes closed_;
};

}  // namespace fedwatt

#endif  // FEDWATT_RPC_SOCKET_BYTE_COUNTER_H_
