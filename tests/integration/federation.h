// A federation of coordinator and clients in one process, and its simulated twin.
#ifndef FEDWATT_TESTS_INTEGRATION_FEDERATION_H_
#define FEDWATT_TESTS_INTEGRATION_FEDERATION_H_

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fedwatt/client/client.h"
#include "fedwatt/simulation/fleet.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {

inline constexpr int64_t kMembers = 4;
inline constexpr uint64_t kSeed = 5;

// `inputs` sets the size of the model: kClasses * (inputs + 1) parameters.
inline Dataset PartOf(int64_t i, int64_t inputs = kInputs) { return MakeBlobs(60, inputs, kClasses, 100 + static_cast<uint64_t>(i)); }

inline ServerOptions FederationOptions(const std::string& out, int64_t inputs = kInputs) {
  LogisticTrainer trainer(inputs, kClasses);
  ServerOptions options = QuickOptions(out, kMembers);
  options.model.plan.architecture.input_shape = {inputs};
  options.model.layout = trainer.layout();
  options.insecure = false;
  options.security_directory = out + "/security";
  options.engine.rounds = 4;
  options.engine.seed = kSeed;
  options.engine.clients_per_round = 3;
  options.model.plan.seed = kSeed;
  options.model.plan.recipe.batch_size = 10;
  options.model.plan.recipe.client_learning_rate = 0.05;
  options.initial_model = *trainer.InitialModel(InitialModelSeed(kSeed));
  options.farewell_duration = absl::Seconds(5);
  return options;
}

inline ClientOptions OptionsFor(const std::string& address, const std::string& out, std::vector<int64_t> partitions,
                                int64_t inputs = kInputs) {
  ClientOptions options;
  options.connection.server = address;
  options.connection.security_directory = out + "/security";
  for (int64_t i : partitions) options.partitions.push_back({i, PartOf(i, inputs)});
  options.partition_count = kMembers;
  options.trainer_factory = LogisticTrainer::Make;
  options.backoff_base = absl::Milliseconds(50);
  options.backoff_cap = absl::Milliseconds(500);
  return options;
}

class RunningClient {
 public:
  explicit RunningClient(ClientOptions options) {
    absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
    if (!client.ok()) {
      ADD_FAILURE() << client.status();
      return;
    }
    client_ = *std::move(client);
    summary_ = std::async(std::launch::async, [this] { return client_->Run(stop_.get_token()); });
  }
  ~RunningClient() {
    stop_.request_stop();
    if (summary_.valid()) summary_.wait();
  }
  absl::StatusOr<ClientSummary> Wait() { return summary_.get(); }

 private:
  std::unique_ptr<Client> client_;
  std::stop_source stop_;
  std::future<absl::StatusOr<ClientSummary>> summary_;
};

// The same run without sockets.
inline FleetOptions TwinOf(const ServerOptions& options) {
  FleetOptions twin;
  twin.engine = options.engine;
  twin.model = options.model;
  twin.initial_model = options.initial_model;
  twin.trainer_factory = LogisticTrainer::Make;
  twin.test = options.evaluation_data;
  twin.workers = 1;
  for (int64_t i = 0; i < kMembers; ++i) twin.partitions.push_back(PartOf(i, options.model.plan.architecture.input_shape[0]));
  return twin;
}

// The rounds of `twin`; none where it fails.
inline std::vector<RoundRecord> Simulate(FleetOptions twin) {
  std::vector<RoundRecord> rounds;
  twin.on_round = [&rounds](const RoundRecord& record) { rounds.push_back(record); };
  absl::StatusOr<std::unique_ptr<Fleet>> fleet = Fleet::Create(std::move(twin));
  EXPECT_THAT(fleet, IsOk());
  if (fleet.ok()) {
    EXPECT_THAT((*fleet)->Run({}), IsOk());
  }
  return rounds;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_INTEGRATION_FEDERATION_H_
