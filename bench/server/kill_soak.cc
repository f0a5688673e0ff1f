// kill -9 at random instants while clients upload, again and again.
//
//   kill_soak FOLDER KILLS [SEED] [CLIENTS] [INPUTS]
//
// A coordinator in a process of its own, CLIENTS (6) clients that answer every assignment at once, half of them with the update inside the report and half by an upload of
// 12 * INPUTS bytes (INPUTS 2000; from 87,000 on updates are files of their own). Kills it KILLS times, 0 to 300 ms after it accepts calls again, then lets it end with the round that is under way
// and checks: each acknowledged update is in one committed round, once, the one that its acknowledgement named; each round's model has the bits of a run that nobody
// disturbed. Prints one line of JSON with the time from the start of the process to its first answered call. Exit 1 where anything was lost or doubled.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/server/killable.h"

namespace fedwatt::testing {
namespace {

constexpr int64_t kManyRounds = 1'000'000;

struct Fleet {
  std::vector<std::unique_ptr<PatientClient>> clients;
  Fleet(const std::string& address, int64_t count, int64_t inputs) {
    for (int64_t i = 0; i < count; ++i) {
      PatientClient::Options options;
      options.address = address;
      options.partition = i;
      options.count = count;
      options.values = LogisticTrainer(inputs, kClasses).layout().value_count();
      options.inside = i % 2 == 0 && 4 * options.values < kMaxInlineBytes - 4096;
      clients.push_back(std::make_unique<PatientClient>(std::move(options)));
    }
  }
};

std::string AddressIn(const std::string& out) {
  for (;;) {
    if (absl::StatusOr<std::string> text = ReadFile(out + "/address"); text.ok() && text->find('\n') != std::string::npos) return text->substr(0, text->find('\n'));
    absl::SleepFor(absl::Milliseconds(2));
  }
}

// Returns once the coordinator has answered a call.
void AwaitAnswer(const std::string& address) {
  for (;;) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("grpc.use_local_subchannel_pool", 1);
    auto stub = v1::Operator::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::GetStatusResponse response;
    if (stub->GetStatus(&context, v1::GetStatusRequest(), &response).ok()) return;
    absl::SleepFor(absl::Milliseconds(2));
  }
}

void StopRun(const std::string& address) {
  auto stub = v1::Operator::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::StopRunRequest request;
  v1::StopRunResponse response;
  stub->StopRun(&context, request, &response);
}

}  // namespace
}  // namespace fedwatt::testing

int main(int argc, char** argv) {
  using namespace fedwatt;           // NOLINT: a program, not a library
  using namespace fedwatt::testing;  // NOLINT
  if (argc < 3 || argc > 6) {
    std::fprintf(stderr, "usage: kill_soak FOLDER KILLS [SEED] [CLIENTS] [INPUTS]\n");
    return 2;
  }
  const std::string folder = argv[1], out = folder + "/out", calm = folder + "/calm", log = folder + "/log";
  const int64_t kills = std::atoll(argv[2]), seed = argc > 3 ? std::atoll(argv[3]) : 1, clients = argc > 4 ? std::atoll(argv[4]) : 6, inputs = argc > 5 ? std::atoll(argv[5]) : 2000;
  std::filesystem::create_directories(folder);
  std::filesystem::remove_all(out);
  std::filesystem::remove_all(calm);
  Random random(DeriveSeed("kill soak", {static_cast<uint64_t>(seed)}));
  const auto start = [&](const std::string& where, const std::string& listen, int64_t rounds) {
    return std::make_unique<CoordinatorProcess>(FEDWATT_COORDINATOR_PROCESS, std::vector<std::string>{where, listen, absl::StrCat(clients), absl::StrCat(rounds), absl::StrCat(inputs), "update"}, "", log);
  };

  std::unique_ptr<CoordinatorProcess> coordinator = start(out, "127.0.0.1:0", kManyRounds);
  const std::string address = AddressIn(out);
  Fleet fleet(address, clients, inputs);
  std::vector<double> seconds;
  for (int64_t i = 0; i < kills; ++i) {
    absl::SleepFor(absl::Milliseconds(300 * random.Uniform()));
    coordinator->Kill();
    const absl::Time begin = absl::Now();
    coordinator = start(out, address, kManyRounds);
    AwaitAnswer(address);
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - begin));
  }
  StopRun(address);
  if (coordinator->Wait() != 0) {
    std::fprintf(stderr, "the coordinator did not end well; see %s\n", log.c_str());
    return 1;
  }

  const absl::StatusOr<RunRecord> record = ReadRunRecord(out);
  if (!record.ok()) {
    std::fprintf(stderr, "%s\n", record.status().ToString().c_str());
    return 1;
  }
  int64_t faults = 0, acknowledged = 0, accepted = 0;
  const auto fault = [&faults](const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    ++faults;
  };
  std::map<std::string, int> lines;
  std::map<int64_t, int64_t> accepted_of_round;
  for (const AttemptRecord& attempt : record->attempts) {
    if (attempt.outcome != "accepted") continue;
    ++accepted_of_round[attempt.round];
    ++accepted;
    if (++lines[absl::StrCat(attempt.attempt, " in ", attempt.round)] > 1) fault(absl::StrCat("counted twice: ", attempt.attempt));
  }
  std::map<int64_t, std::string> digests;
  for (const RoundRecord& round : record->rounds) {
    if (!round.committed) continue;
    digests[round.round] = round.model_digest;
    if (accepted_of_round[round.round] != round.clients_completed) fault(absl::StrCat("round ", round.round, " has ", round.clients_completed, " updates and ", accepted_of_round[round.round], " lines"));
  }
  for (const std::unique_ptr<PatientClient>& client : fleet.clients) {
    client->Stop();
    for (const std::string& complaint : client->complaints()) fault(complaint);
    for (const auto& [attempt, rounds] : client->acknowledged()) {
      for (int64_t round : rounds) {
        ++acknowledged;
        if (lines[absl::StrCat(attempt, " in ", round)] != 1) fault(absl::StrCat("acknowledged and lost: ", attempt));
      }
    }
  }
  {
    const int64_t rounds = digests.empty() ? 0 : digests.rbegin()->first;
    std::unique_ptr<CoordinatorProcess> undisturbed = start(calm, "127.0.0.1:0", std::max<int64_t>(rounds, 1));
    Fleet calm_fleet(AddressIn(calm), clients, inputs);
    if (undisturbed->Wait() != 0) fault("the undisturbed run failed");
  }
  const absl::StatusOr<RunRecord> expected = ReadRunRecord(calm);
  int64_t identical = 0;
  for (const RoundRecord& round : expected.ok() ? expected->rounds : std::vector<RoundRecord>()) {
    const auto found = digests.find(round.round);
    if (found == digests.end()) {
      fault(absl::StrCat("round ", round.round, " was not committed"));
    } else if (found->second != round.model_digest) {
      fault(absl::StrCat("round ", round.round, " has other bits"));
    } else {
      ++identical;
    }
  }
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double q) { return seconds.empty() ? 0.0 : seconds[std::min(seconds.size() - 1, static_cast<size_t>(q * static_cast<double>(seconds.size())))]; };
  std::printf(
      "{\"kills\": %ld, \"seed\": %ld, \"clients\": %ld, \"update_bytes\": %ld, \"rounds\": %zu, \"rounds_identical\": %ld, \"acknowledged\": %ld, \"accepted\": %ld, \"faults\": %ld, "
      "\"accepting_again_seconds\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}}\n",
      kills, seed, clients, 4 * LogisticTrainer(inputs, kClasses).layout().value_count(), digests.size(), identical, acknowledged, accepted, faults, quantile(0.5), quantile(0.99), quantile(1));
  return faults == 0 ? 0 : 1;
}
