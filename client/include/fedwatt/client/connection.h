// How a client or an operator reaches the coordinator.
#ifndef FEDWATT_CLIENT_CONNECTION_H_
#define FEDWATT_CLIENT_CONNECTION_H_

#include <string>

#include "absl/time/time.h"

namespace fedwatt {

struct ConnectionOptions {
  std::string server;                     // "host:port" or "[::1]:port"
  std::string server_origin = "options";  // where the address came from ("flag --server"), for messages
  // The coordinator's security directory, or a folder that EnrolIdentity filled.
  std::string security_directory;
  // No TLS. Must be chosen; security_directory is then not read.
  bool insecure = false;
  // How long to wait for a security directory that the coordinator is just making.
  absl::Duration security_wait = absl::Seconds(30);
};

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_CONNECTION_H_
