#include "audit/alternatives.h"

#include <memory>
#include <string>
#include <utility>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace fedwatt::tool {
namespace {

void CountWork(const absl::StatusOr<ModelProfile>& profile, Alternative& alternative) {
  if (!profile.ok()) return;
  alternative.macs = 0;
  alternative.activation_bytes = 0;
  for (const OperatorProfile& run : profile->operators) {
    *alternative.macs += run.macs;
    *alternative.activation_bytes += run.activation_bytes;
  }
}

}  // namespace

absl::StatusOr<std::vector<Alternative>> CompareAlternatives(Subject& subject, const MeasureOptions& options) {
  const Way& own = subject.ways()[0];
  std::vector<Alternative> alternatives = {{.name = subject.name(), .parameters = own.parameters}};
  CountWork(subject.profile(), alternatives[0]);
  std::vector<Task> tasks;
  for (Task& task : subject.Tasks()) {
    if (task.way != own.name) continue;
    task.way = alternatives[0].name;
    tasks.push_back(std::move(task));
  }
  const TrainingRecipe& recipe = subject.recipe();
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < recipe.batch_size; ++i) indices.push_back(static_cast<int32_t>(i % subject.train().size()));
  FEDWATT_ASSIGN_OR_RETURN(const Dataset batch, subject.train().Subset(std::move(indices)));
  struct Running {
    std::unique_ptr<LocalTrainer> trainer;
    std::vector<float> model, trained;
  };
  std::vector<std::unique_ptr<Running>> running;  // tasks borrow them
  for (const std::string& name : ArchitectureNames()) {
    if (name == own.spec.name) continue;
    Alternative& alternative = alternatives.emplace_back(Alternative{.name = name});
    const ArchitectureSpec spec{.name = name, .input_shape = own.spec.input_shape, .output_count = own.spec.output_count};
    absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
    absl::Status usable = trainer.status();
    auto run = std::make_unique<Running>();
    if (usable.ok()) {
      run->trainer = *std::move(trainer);
      FEDWATT_ASSIGN_OR_RETURN(run->model, run->trainer->InitialModel(1));
      run->trained.resize(run->model.size());
      usable = run->trainer->Evaluate(run->model, batch, recipe.loss).status();
    }
    if (!usable.ok()) {
      alternative.problem = std::string(usable.message());
      continue;
    }
    alternative.parameters = static_cast<int64_t>(run->model.size());
    CountWork(ProfileArchitecture(spec), alternative);
    Running* borrowed = run.get();
    tasks.push_back({name, "inference", batch.size(), [borrowed, batch, loss = recipe.loss](int64_t repeats) {
                       for (int64_t i = 0; i < repeats; ++i) FEDWATT_RETURN_IF_ERROR(borrowed->trainer->Evaluate(borrowed->model, batch, loss).status());
                       return absl::OkStatus();
                     }});
    tasks.push_back({name, "training", batch.size(), [borrowed, batch, recipe](int64_t repeats) {
                       TrainingRecipe steps = recipe;
                       steps.local_steps = static_cast<int32_t>(std::min<int64_t>(repeats, 1 << 30));
                       return borrowed->trainer->Train(borrowed->model, batch, steps, 1, {}, absl::MakeSpan(borrowed->trained)).status();
                     }});
    running.push_back(std::move(run));
  }
  FEDWATT_ASSIGN_OR_RETURN(const Measurement measured, Measure(tasks, options));
  for (Alternative& alternative : alternatives) {
    for (const TaskCost& cost : measured.tasks) {
      if (cost.way == alternative.name) (cost.work == "training" ? alternative.training : alternative.inference) = cost;
    }
  }
  return alternatives;
}

}  // namespace fedwatt::tool
