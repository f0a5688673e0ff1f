#include "fedwatt/rpc/socket_byte_counter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

// Two ends of one TCP connection in this process.
struct Pair {
  int listener = -1, client = -1, server = -1, port = 0;
  Pair() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    listener = ::socket(AF_INET, SOCK_STREAM, 0);
    ::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    ::listen(listener, 4);
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    port = ntohs(address.sin_port);
    Connect();
  }
  void Connect() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    client = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    server = ::accept(listener, nullptr, nullptr);
  }
  void Send(int size) {
    std::string data(static_cast<size_t>(size), 'x');
    ASSERT_EQ(::send(client, data.data(), data.size(), 0), size);
    for (int got = 0; got < size;) got += static_cast<int>(::recv(server, data.data(), data.size(), 0));
  }
  void Close() {
    ::close(client);
    ::close(server);
  }
  ~Pair() {
    Close();
    ::close(listener);
  }
};

TEST(SocketByteCounterTest, CountsOneSideAndKeepsClosedConnections) {
  Pair pair;
  SocketByteCounter client = SocketByteCounter::ToPeerPort(pair.port);
  SocketByteCounter server = SocketByteCounter::OnLocalPort(pair.port);
  if (!client.Read().has_value()) GTEST_SKIP() << "the kernel does not count";
  pair.Send(1000);
  if (server.Read()->received == 0) GTEST_SKIP() << "the kernel reports zeros";
  EXPECT_EQ(client.Read()->sent, 1000);
  EXPECT_EQ(client.Read()->received, 0);
  EXPECT_EQ(server.Read()->received, 1000);
  // Opening, its acknowledgement, the data: each has headers of 52 bytes, or 40 without timestamps. The server has seen them all before its program saw the data.
  const int64_t headers = client.Read()->sent_headers, header = headers % 52 == 0 ? 52 : 40;
  EXPECT_EQ(headers % header, 0);
  EXPECT_GE(headers, 3 * header);
  EXPECT_LE(server.Read()->received_headers, client.Read()->sent_headers);
  EXPECT_GE(server.Read()->received_headers, 2 * header);
  EXPECT_GE(server.Read()->sent_headers, header);
  pair.Close();
  pair.Connect();
  pair.Send(10);
  EXPECT_EQ(client.Read()->sent, 1010);
  EXPECT_EQ(server.Read()->received, 1010);
}

TEST(SocketByteCounterTest, IgnoresOtherPorts) {
  Pair pair, other;
  pair.Send(100);
  std::optional<WireBytes> bytes = SocketByteCounter::ToPeerPort(other.port).Read();
  if (!bytes.has_value()) GTEST_SKIP() << "the kernel does not count";
  EXPECT_EQ(bytes->sent, 0);
}

}  // namespace
}  // namespace fedwatt
