// What a simulated round costs over the bare LibTorch loop that does the same training steps: same model, same batches, one process, one kernel thread.
//
//   build/release/bin/round_overhead_bench [pairs [largest cohort]]
//
// The bare loop is what a person would write: torch::nn modules, torch::optim::SGD, batches that are tensors already. The fleet does the same steps and
// also selects, resets, encodes, checks, sums and publishes. Evaluation is off on both sides. Pairs alternate; medians are printed.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/simulation/fleet.h"

namespace fedwatt {
namespace {

constexpr int64_t kExamples = 600;  // per client
constexpr int64_t kBatch = 10;

struct Mlp : torch::nn::Module {
  torch::nn::Linear fc1{784, 200}, fc2{200, 200}, fc3{200, 10};
  Mlp() {
    register_module("fc1", fc1);
    register_module("fc2", fc2);
    register_module("fc3", fc3);
  }
  torch::Tensor forward(torch::Tensor x) { return fc3(torch::relu(fc2(torch::relu(fc1(x.flatten(1)))))); }
};

struct Cnn : torch::nn::Module {
  torch::nn::Conv2d conv1{torch::nn::Conv2dOptions(1, 32, 5).padding(2)}, conv2{torch::nn::Conv2dOptions(32, 64, 5).padding(2)};
  torch::nn::Linear fc1{3136, 512}, fc2{512, 10};
  Cnn() {
    register_module("conv1", conv1);
    register_module("conv2", conv2);
    register_module("fc1", fc1);
    register_module("fc2", fc2);
  }
  torch::Tensor forward(torch::Tensor x) {
    x = torch::max_pool2d(torch::relu(conv1(x)), 2);
    x = torch::max_pool2d(torch::relu(conv2(x)), 2);
    return fc2(torch::relu(fc1(x.flatten(1))));
  }
};

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Dataset SyntheticClient(uint64_t seed) {
  Random random(seed);
  ExampleStore store;
  store.input_shape = {1, 28, 28};
  store.output_count = 10;
  std::vector<uint8_t> bytes(kExamples * 784);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.Below(256));
  store.inputs = std::move(bytes);
  store.scale = {1.0f / 255};
  for (int64_t i = 0; i < kExamples; ++i) store.labels.push_back(static_cast<int32_t>(random.Below(10)));
  return *Dataset::Create(std::move(store));
}

// One client's batches as tensors.
struct Batches {
  std::vector<torch::Tensor> inputs, labels;
};
Batches Materialise(const Dataset& data) {
  Batches batches;
  for (int64_t begin = 0; begin < data.size(); begin += kBatch) {
    torch::Tensor x = torch::empty({kBatch, 1, 28, 28}), y = torch::empty({kBatch}, torch::kInt64);
    for (int64_t i = 0; i < kBatch; ++i) {
      data.CopyInput(begin + i, absl::MakeSpan(x.data_ptr<float>() + i * 784, 784));
      y[i] = data.label(begin + i);
    }
    batches.inputs.push_back(x);
    batches.labels.push_back(y);
  }
  return batches;
}

template <typename Model>
double BareRound(const std::vector<Batches>& clients, int64_t cohort) {
  Model model;
  model.train();
  const auto start = std::chrono::steady_clock::now();
  for (int64_t c = 0; c < cohort; ++c) {
    torch::optim::SGD optimizer(model.parameters(), torch::optim::SGDOptions(0.01));
    const Batches& batches = clients[static_cast<size_t>(c)];
    for (size_t b = 0; b < batches.inputs.size(); ++b) {
      optimizer.zero_grad();
      torch::nn::functional::cross_entropy(model.forward(batches.inputs[b]), batches.labels[b]).backward();
      optimizer.step();
    }
  }
  return Seconds(start);
}

template <typename Model>
void Compare(const std::string& architecture, int64_t cohort, int pairs) {
  std::vector<Dataset> partitions;
  std::vector<Batches> batches;
  for (int64_t i = 0; i < cohort; ++i) {
    partitions.push_back(SyntheticClient(static_cast<uint64_t>(i) + 1));
    batches.push_back(Materialise(partitions.back()));
  }
  FleetOptions options;
  options.engine.run_id = "bench";
  options.engine.rounds = pairs + 1;  // the first warms up both sides
  options.engine.clients_per_round = cohort;
  options.engine.wait_for_clients = cohort;
  options.engine.deadline = absl::Hours(1000);
  options.engine.evaluates = false;
  options.model.plan.run_id = "bench";
  options.model.plan.architecture = {.name = architecture, .input_shape = {1, 28, 28}, .output_count = 10};
  options.model.plan.recipe.batch_size = kBatch;
  options.model.plan.recipe.client_learning_rate = 0.01;
  options.model.max_cohort = cohort;
  options.trainer_factory = MakeTorchTrainer;
  options.partitions = partitions;
  options.workers = 1;

  std::vector<double> bare, fleet, ratios;
  auto round_start = std::chrono::steady_clock::now();
  bool warm = false;
  options.on_round = [&](const RoundRecord&) {
    const double ours = Seconds(round_start);
    const double theirs = BareRound<Model>(batches, cohort);
    if (warm) {
      fleet.push_back(ours);
      bare.push_back(theirs);
      ratios.push_back(ours / theirs);
    }
    warm = true;
    round_start = std::chrono::steady_clock::now();
  };
  auto made = Fleet::Create(std::move(options));
  if (!made.ok() || !(*made)->Run({}).ok()) {
    std::fprintf(stderr, "the fleet failed: %s\n", made.status().ToString().c_str());
    std::exit(1);
  }
  std::printf("%-10s clients %4ld  bare %8.1f ms  fleet %8.1f ms  ratio median %.3f  min %.3f  max %.3f  (%d pairs)\n", architecture.c_str(),
              static_cast<long>(cohort), 1e3 * Median(bare), 1e3 * Median(fleet), Median(ratios), *std::min_element(ratios.begin(), ratios.end()),
              *std::max_element(ratios.begin(), ratios.end()), pairs);
  std::fflush(stdout);
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  const int pairs = argc > 1 ? std::max(1, std::atoi(argv[1])) : 5;
  const int64_t largest = argc > 2 ? std::atoi(argv[2]) : 100;
  if (!fedwatt::ConfigureKernels(1).ok()) return 1;
  for (const auto& [key, value] : fedwatt::KernelFacts()) std::printf("%s %s\n", key.c_str(), value.c_str());
  for (int64_t cohort : {10, 100}) {
    if (cohort > largest) continue;
    fedwatt::Compare<fedwatt::Mlp>("mlp_2nn", cohort, pairs);
    fedwatt::Compare<fedwatt::Cnn>("fedavg_cnn", cohort, pairs);
  }
  return 0;
}
