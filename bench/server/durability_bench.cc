// What it costs to flush before an update is acknowledged, and what group commit saves of it.
//
//   durability_bench FOLDER [REPEATS]
//
// Two tables, one line of JSON a row. "journal": K threads append a record each and wait until it is durable, with one flush for all that wait (group) and with one a record.
// "coordinator": a coordinator in a process of its own and K clients that answer at once with a small update inside their report, with durability "update" and "round". The variants of a row
// alternate, REPEATS times (5); medians, and the lowest and highest in brackets. FOLDER should be on the disk that is meant.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "absl/strings/str_format.h"
#include "fedwatt/base/status_macros.h"
#include "journal.h"
#include "tests/server/killable.h"

namespace fedwatt::testing {
namespace {

constexpr absl::Duration kSpan = absl::Seconds(2);

// Records a second.
double Appends(const std::string& folder, int threads, size_t bytes, bool group) {
  internal::Journal::Options options;
  options.path = folder + "/bench.journal";
  options.round = 1;
  options.group = group;
  std::filesystem::remove(options.path);
  absl::StatusOr<internal::Journal::Opened> opened = internal::Journal::Open(std::move(options));
  FEDWATT_CHECK(opened.ok());
  std::atomic<int64_t> count = 0;
  const absl::Time begin = absl::Now(), end = begin + kSpan;
  std::vector<std::thread> producers;
  for (int i = 0; i < threads; ++i) {
    producers.emplace_back([&] {
      while (absl::Now() < end) {
        std::promise<void> durable;
        opened->journal->Append({std::string(1000, 'm'), std::string(bytes, 'b'), "", [&durable] { durable.set_value(); }});
        durable.get_future().wait();
        ++count;
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  return static_cast<double>(count) / absl::ToDoubleSeconds(absl::Now() - begin);
}

struct Figures {
  double per_second = 0, cpu_ms = 0;
};

double ChildrenCpu() {
  rusage usage;
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// Acknowledgements a second, and the coordinator's processor time for each.
Figures Acknowledgements(const std::string& folder, int64_t clients, int64_t rounds, const std::string& durability) {
  const std::string out = folder + "/out";
  std::filesystem::remove_all(out);
  const double cpu = ChildrenCpu();
  CoordinatorProcess coordinator(FEDWATT_COORDINATOR_PROCESS, {out, "127.0.0.1:0", absl::StrCat(clients), absl::StrCat(rounds), "16", durability}, "", folder + "/log");
  std::string address;
  while (address.empty()) {
    if (absl::StatusOr<std::string> text = ReadFile(out + "/address"); text.ok()) address = text->substr(0, text->find('\n'));
    absl::SleepFor(absl::Milliseconds(5));
  }
  std::mutex mutex;
  std::optional<absl::Time> first;
  absl::Time last;
  int64_t count = 0;
  {
    std::vector<std::unique_ptr<PatientClient>> members;
    for (int64_t i = 0; i < clients; ++i) {
      PatientClient::Options options;
      options.address = address;
      options.partition = i;
      options.count = clients;
      options.values = LogisticTrainer(16, kClasses).layout().value_count();
      options.inside = true;
      options.on_acknowledged = [&](const std::string&, int64_t) {
        std::lock_guard<std::mutex> lock(mutex);
        last = absl::Now();
        if (!first) first = last;
        ++count;
      };
      members.push_back(std::make_unique<PatientClient>(std::move(options)));
    }
    FEDWATT_CHECK(coordinator.Wait() == 0);
  }
  FEDWATT_CHECK(count == clients * rounds);
  return {static_cast<double>(count) / absl::ToDoubleSeconds(last - *first), 1e3 * (ChildrenCpu() - cpu) / static_cast<double>(count)};
}

std::string Spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return absl::StrFormat("\"%.4g [%.4g, %.4g]\"", values[values.size() / 2], values.front(), values.back());
}

}  // namespace
}  // namespace fedwatt::testing

int main(int argc, char** argv) {
  using namespace fedwatt::testing;  // NOLINT: a program, not a library
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: durability_bench FOLDER [REPEATS]\n");
    return 2;
  }
  const std::string folder = argv[1];
  const int repeats = argc == 3 ? std::atoi(argv[2]) : 5;
  for (const auto& [threads, bytes] : {std::pair<int, size_t>{1, 4 << 10}, {16, 4 << 10}, {64, 4 << 10}, {16, 256 << 10}}) {
    std::vector<double> group, single;
    for (int i = 0; i < repeats; ++i) {
      group.push_back(Appends(folder, threads, bytes, true));
      single.push_back(Appends(folder, threads, bytes, false));
    }
    std::printf("{\"journal\": {\"threads\": %d, \"body_bytes\": %zu, \"records_per_second\": {\"group\": %s, \"single\": %s}}}\n", threads, bytes, Spread(group).c_str(), Spread(single).c_str());
    std::fflush(stdout);
  }
  for (const int64_t clients : {1, 16, 64}) {
    std::map<std::string, std::vector<double>> rate, cpu;
    for (int i = 0; i < repeats; ++i) {
      for (const std::string durability : {"update", "round"}) {
        const Figures figures = Acknowledgements(folder, clients, clients == 1 ? 200 : 50, durability);
        rate[durability].push_back(figures.per_second);
        cpu[durability].push_back(figures.cpu_ms);
      }
    }
    std::printf("{\"coordinator\": {\"clients\": %ld, \"acknowledged_per_second\": {\"update\": %s, \"round\": %s}, \"coordinator_cpu_ms_each\": {\"update\": %s, \"round\": %s}}}\n", clients,
                Spread(rate["update"]).c_str(), Spread(rate["round"]).c_str(), Spread(cpu["update"]).c_str(), Spread(cpu["round"]).c_str());
    std::fflush(stdout);
  }
  return 0;
}
