#include "fedwatt/server/server.h"

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "coordinator.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/audit_log.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/gate.h"
#include "fedwatt/rpc/manifest.h"
#include "fedwatt/rpc/security.h"
#include "grpc/health/v1/health.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server_builder.h"
#include "identity_desk.h"
#include "services.h"

namespace fedwatt {
namespace {

constexpr absl::Duration kMaintenanceInterval = absl::Seconds(1);

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.durability != "update" && options.durability != "round") {
    return absl::InvalidArgumentError(absl::StrCat("durability: expected 'update' or 'round', got '", options.durability, "'"));
  }
  for (absl::Duration span : {options.hold_duration, options.session_duration, options.federated_evaluation_timeout}) {
    if (span <= absl::ZeroDuration()) return absl::InvalidArgumentError("server: hold, session and evaluation durations must be positive");
  }
  if (options.journaled_update_bytes < 0 || options.journaled_update_bytes > internal::Journal::kMaxBodyBytes) {
    return absl::InvalidArgumentError(absl::StrCat("journaled_update_bytes: expected [0, ", internal::Journal::kMaxBodyBytes, "], got ", options.journaled_update_bytes));
  }
  const TransferLimits& transfers = options.transfers;
  if (!(transfers.min_bytes_per_second >= 0) || transfers.grace <= absl::ZeroDuration() || transfers.max_transfers < 1 || transfers.max_of_one_caller < 1) {
    return absl::InvalidArgumentError("server: limits of transfers must be positive");
  }
  if (options.watch_after < absl::ZeroDuration()) return absl::InvalidArgumentError("server: watch_after must not be negative");
  if (options.session_duration <= options.disconnect_grace) {
    return absl::InvalidArgumentError("server: session_duration must be longer than disconnect_grace");
  }
  return absl::OkStatus();
}

class GrpcServer : public Server {
 public:
  explicit GrpcServer(ServerOptions options) : options_(std::move(options)), loop_(options_.clock) {}
  ~GrpcServer() override { ShutDown(); }

  absl::Status Start() {
    FEDWATT_ASSIGN_OR_RETURN(HostPort listen, ParseAddress(options_.listen));
    FEDWATT_RETURN_IF_ERROR(MakeDirectories(options_.out_directory));
    if (!options_.insecure) {
      FEDWATT_ASSIGN_OR_RETURN(security_, SecurityDirectory::CreateOrOpen(options_.security_directory, options_.server_names, options_.clock,
                                                                                  options_.certificate_lifetime));
    }
    if (security_ != nullptr) {
      FEDWATT_ASSIGN_OR_RETURN(const std::string key, security_->SigningKeyPem());
      FEDWATT_ASSIGN_OR_RETURN(const int64_t epoch, security_->NextEpoch());
      FEDWATT_ASSIGN_OR_RETURN(signer_, ManifestSigner::Create(key, epoch));
    }
    FEDWATT_ASSIGN_OR_RETURN(coordinator_, internal::Coordinator::Create(&options_, &loop_, signer_.get()));
    run_id_ = coordinator_->run_id();
    FEDWATT_ASSIGN_OR_RETURN(audit_, AuditLog::Open(absl::StrCat(options_.out_directory, "/audit.log"), options_.clock, options_.log));
    gate_.emplace(security_.get(), audit_.get(), options_.clock);
    desk_.emplace(security_.get(), &*gate_);
    transfers_.emplace(options_.transfers, options_.clock);
    const internal::ServiceContext with{&loop_, coordinator_.get(), &*desk_, &*gate_, &*transfers_};
    coordinator_service_.emplace(with);
    operator_service_.emplace(with);
    audit_->Action({.event = "started", .detail = absl::StrCat("run ", run_id_, options_.insecure ? ", without TLS" : "")});
    Maintain();

    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Links the descriptor in, so that reflection can describe the health service.
    grpc::health::v1::HealthCheckRequest::descriptor();
    grpc::ServerBuilder builder;
    ApplyServerLimits(builder);
    int port = 0;
    builder.AddListeningPort(options_.listen, options_.insecure ? InsecureServerCredentials() : security_->ServerCredentials(), &port);
    builder.RegisterService(&*coordinator_service_);
    builder.RegisterService(&*operator_service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(absl::StrCat("listen: ", options_.listen, " cannot be bound; is another program using the port?"));
    }
    coordinator_->ListensOn(port);
    // A wildcard is no address to connect to.
    std::string host = listen.host == "0.0.0.0" ? "127.0.0.1" : listen.host == "::" ? "::1" : listen.host;
    if (host.find(':') != std::string::npos) host = absl::StrCat("[", host, "]");
    address_ = absl::StrCat(host, ":", port);
    return WriteFileAtomically(absl::StrCat(options_.out_directory, "/address"), absl::StrCat(address_, "\n"));
  }

  const std::string& address() const override { return address_; }
  const std::string& run_id() const override { return run_id_; }
  ServerSnapshot Snapshot() const override { return coordinator_->Snapshot(); }

  RunOutcome Run(std::stop_token stop) override {
    std::stop_callback on_stop(stop, [this] { loop_.Post([this] { coordinator_->Stop("stopped"); }); });
    coordinator_->Start();
    while (!coordinator_->finished()) loop_.RunOnce(absl::Hours(1));
    RunOutcome outcome = coordinator_->Close();
    const absl::Duration until = options_.clock->Monotonic() + options_.farewell_duration;
    while (!coordinator_->farewell_done()) {
      const absl::Duration left = until - options_.clock->Monotonic();
      if (left <= absl::ZeroDuration()) break;
      loop_.RunOnce(left);
    }
    coordinator_->ForgetWhoWasTold();
    ShutDown();
    return outcome;
  }

 private:
  // At most once a minute, so that a flood of streams fills neither log.
  void TellOfTransfers() {
    const int64_t cut = transfers_->cut_count() - told_cut_, refused = transfers_->refused_count() - told_refused_;
    if (cut + refused == 0 || options_.clock->Monotonic() - transfers_told_ < absl::Minutes(1)) return;
    transfers_told_ = options_.clock->Monotonic();
    told_cut_ += cut;
    told_refused_ += refused;
    const std::string detail = absl::StrCat(cut, " cut for moving too little, ", refused, " refused as too many");
    audit_->Action({.event = "transfers", .detail = detail});
    Log(options_.log, LogLevel::kWarning, absl::StrCat("transfers: ", detail));
  }

  // Once a second: streams that are too slow, certificates that are due, revocations, counts for the audit log.
  void Maintain() {
    audit_->Tick();
    transfers_->Sweep();
    TellOfTransfers();
    if (security_ != nullptr) {
      absl::StatusOr<std::vector<std::string>> revoked = security_->Maintain();
      for (const std::string& name : revoked.ok() ? *revoked : std::vector<std::string>()) {
        audit_->Action({.event = "revoked", .detail = absl::StrCat(name, ", in the security directory")});
      }
      // Another process that holds the folder's lock does the same work.
      if (!revoked.ok() && revoked.status().code() != absl::StatusCode::kAlreadyExists && revoked.status() != maintenance_) {
        Log(options_.log, LogLevel::kError, absl::StrCat("security directory: ", std::string(revoked.status().message())));
      }
      maintenance_ = revoked.status();
    }
    loop_.After(kMaintenanceInterval, [this] { Maintain(); });
  }

  // Calls end on the loop's thread, so it must turn until the last one has ended.
  void ShutDown() {
    if (server_ == nullptr) return;
    std::atomic<bool> down = false;
    std::jthread thread([&] {
      server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
      server_->Wait();
      down = true;
      loop_.Post([] {});
    });
    while (!down) loop_.RunOnce(absl::Seconds(1));
    loop_.RunOnce(absl::ZeroDuration());
    thread.join();
    server_.reset();
    audit_->Action({.event = "stopped", .detail = absl::StrCat("run ", run_id_)});
  }

  ServerOptions options_;
  internal::Loop loop_;
  std::unique_ptr<SecurityDirectory> security_;
  absl::Status maintenance_;  // how the last one went
  std::unique_ptr<ManifestSigner> signer_;
  std::unique_ptr<internal::Coordinator> coordinator_;
  std::unique_ptr<AuditLog> audit_;
  std::optional<Gate> gate_;
  std::optional<internal::IdentityDesk> desk_;
  std::optional<internal::TransferWatch> transfers_;
  absl::Duration transfers_told_ = -absl::InfiniteDuration();
  int64_t told_cut_ = 0, told_refused_ = 0;
  std::optional<internal::CoordinatorService> coordinator_service_;
  std::optional<internal::OperatorService> operator_service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_, run_id_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(ServerOptions options) {
  FEDWATT_RETURN_IF_ERROR(CheckOptions(options));
  auto server = std::make_unique<GrpcServer>(std::move(options));
  FEDWATT_RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace fedwatt
