// Getting an identity from a coordinator on another machine.
#ifndef FEDWATT_CLIENT_ENROL_H_
#define FEDWATT_CLIENT_ENROL_H_

#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/base/log.h"

namespace fedwatt {

struct EnrolOptions {
  std::string server;     // "host:port"
  std::string token;      // as the coordinator's file enrolment_token or `fedwatt keys` gives it
  std::string directory;  // where the identity goes: use it as security.directory afterwards
  std::string name;       // what people call this device; may be empty
  LogSink log;
};

// Makes a key here, learns the coordinator's CA by the fingerprint in the token, and has the key signed. The key never leaves this
// machine. Tries three times where the network fails. Returns the client id. Blocks. Thread-safe.
// Errors: INVALID_ARGUMENT  address or token malformed; ALREADY_EXISTS  the folder holds an identity
//         PERMISSION_DENIED  token unknown, used, expired, or of another server
//         FAILED_PRECONDITION  the coordinator runs without TLS; UNAVAILABLE  not reached, in words
absl::StatusOr<std::string> EnrolIdentity(const EnrolOptions& options);

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_ENROL_H_
