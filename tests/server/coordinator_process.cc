// A coordinator of a small model as a process of its own, to be killed.
//
//   coordinator_process OUT LISTEN CLIENTS ROUNDS INPUTS DURABILITY
#include <cstdio>
#include <cstdlib>

#include "fedwatt/base/log.h"
#include "tests/server/raw_client.h"

int main(int argc, char** argv) {
  using namespace fedwatt;  // NOLINT: a program, not a library
  using namespace fedwatt::testing;  // NOLINT
  if (argc != 7) return 2;
  const int64_t clients = std::atoll(argv[3]), inputs = std::atoll(argv[5]);
  const LogisticTrainer trainer(inputs, kClasses);
  ServerOptions options = QuickOptions(argv[1], clients);
  options.listen = argv[2];
  options.engine.rounds = std::atoll(argv[4]);
  options.engine.deadline = absl::Minutes(2);
  options.durability = argv[6];
  options.model.plan.architecture.input_shape = {inputs};
  options.model.plan.limits.max_update_bytes = 8 << 20;
  options.model.layout = trainer.layout();
  options.initial_model.assign(static_cast<size_t>(trainer.layout().value_count()), 0.0f);
  options.disconnect_grace = absl::Seconds(20);
  options.session_duration = absl::Seconds(60);
  options.farewell_duration = absl::Seconds(10);
  options.log = [](LogLevel, std::string_view message) { std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data()); };
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(std::move(options));
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  const RunOutcome outcome = (*server)->Run(std::stop_token());
  if (!outcome.status.ok()) std::fprintf(stderr, "%s\n", outcome.status.ToString().c_str());
  return outcome.status.ok() ? 0 : 1;
}
