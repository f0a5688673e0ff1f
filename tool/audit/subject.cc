#include "audit/subject.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::tool {
namespace {

constexpr int64_t kSyntheticExamples = 64;
constexpr int64_t kMostTestExamples = 2000;
constexpr int64_t kMostExampleBytes = int64_t{256} << 20;  // as float32, of what one call gets

// Labels are random: nothing can be learnt from them, and costs do not depend on them.
absl::StatusOr<Dataset> Synthetic(const ArchitectureSpec& spec, bool tokens) {
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  Random random(1);
  std::vector<float> numbers;
  std::vector<int32_t> words;
  for (int64_t i = 0; i < kSyntheticExamples; ++i) {
    for (int64_t k = 0; k < store.input_size(); ++k) {
      const double value = random.Uniform();
      if (tokens) {
        words.push_back(static_cast<int32_t>(value * static_cast<double>(spec.output_count)));
      } else {
        numbers.push_back(static_cast<float>(2 * value - 1));
      }
    }
    store.labels.push_back(static_cast<int32_t>(random.Uniform() * static_cast<double>(spec.output_count)));
  }
  if (tokens) {
    store.inputs = std::move(words);
  } else {
    store.inputs = std::move(numbers);
  }
  return Dataset::Create(std::move(store));
}

int64_t ParameterCount(const ParameterLayout& layout) {
  int64_t count = 0;
  for (const LayoutEntry& entry : layout.entries()) count += entry.kind == EntryKind::kParameter ? entry.element_count() : 0;
  return count;
}

std::optional<double> MacsOf(const absl::StatusOr<ModelProfile>& profile) {
  if (!profile.ok()) return std::nullopt;
  double macs = 0;
  for (const OperatorProfile& run : profile->operators) macs += run.macs;
  return macs;
}

KeptChannels HalfOf(const std::vector<ChannelGroup>& groups) {
  KeptChannels kept;
  for (const ChannelGroup& group : groups) kept[group.name] = {{0, ChannelCount(0.5, group.size)}};
  return kept;
}

// Converts a model to 8 bits, in a folder that is there for `use` alone.
absl::Status WithInt8(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& data, const std::string& loss,
                      const std::function<absl::Status(const Int8Delivery& delivery, const std::string& path)>& use) {
  std::string folder = std::filesystem::temp_directory_path() / "fedwatt-audit-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return ErrnoStatus(errno, folder);
  absl::Cleanup remove = [&] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  };
  const std::string path = folder + "/int8.pt";
  FEDWATT_ASSIGN_OR_RETURN(const Int8Delivery delivery, DeliverInt8(spec, model, data, /*score=*/false, loss, path));
  return use(delivery, path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalTrainer>> Subject::MakeTrainer(const ArchitectureSpec& spec) {
  if (archive_path_.empty()) return MakeTorchTrainer(spec);
  return MakeTorchScriptTrainer(spec, archive_path_, {.sandbox = sandbox_, .channels = channels_});
}

// Proving takes a few dozen passes through the network. What can't be found out is told as the reason, for nothing else depends on it.
absl::Status Subject::FindChannels(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(std::string archive, ReadFile(archive_path_, TorchScriptOptions().max_archive_bytes));
  FEDWATT_ASSIGN_OR_RETURN(channels_, FindArchiveChannels(spec, std::move(archive), {.sandbox = sandbox_}));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Subject>> Subject::Make(const Settings& settings, std::vector<int64_t> input_shape, int64_t output_count) {
  std::unique_ptr<Subject> made(new Subject());
  made->archive_path_ = settings.model.torchscript;
  made->sandbox_ = settings.model.sandbox;
  made->recipe_ = settings.training.recipe;
  made->name_ = made->archive_path_.empty() ? settings.model.architecture.name : made->archive_path_;
  made->has_data_ = !settings.data.path.empty();
  const bool archive = !made->archive_path_.empty();
  ArchitectureSpec spec = settings.model.architecture;
  if (!input_shape.empty()) spec.input_shape = std::move(input_shape);
  if (made->has_data_) {
    absl::StatusOr<DataSplit> data = ReadData(settings.data);
    if (!data.ok()) return WithExitCode(data.status(), ExitCode::kData);
    made->data_ = *std::move(data);
    if (output_count != 0 && output_count != made->data_.train.store().output_count) {
      return WithExitCode(absl::InvalidArgumentError(absl::StrCat("--outputs: the data has ", made->data_.train.store().output_count, " classes, got ", output_count)), ExitCode::kUsage);
    }
    Settings shaped = settings;
    shaped.model.architecture = spec;
    FEDWATT_ASSIGN_OR_RETURN(spec, MakeArchitecture(shaped, made->data_.train));
  } else {
    if (spec.input_shape.empty() && archive) {
      return WithExitCode(absl::InvalidArgumentError("an archive does not say what it takes: give --data PATH, or the shape of one example, such as --input 3,224,224"),
                          ExitCode::kUsage);
    }
    if (spec.input_shape.empty()) spec.input_shape = {1, 28, 28};
    spec.output_count = output_count > 0 ? output_count : 10;
  }

  if (archive) {
    // It must run before anybody knows how many outputs it has.
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<TorchScriptTrainer> first, MakeTorchScriptTrainer(spec, made->archive_path_, {.sandbox = made->sandbox_}));
    made->profile_ = first->Profile();
    if (made->profile_.ok() && !made->has_data_ && output_count == 0) spec.output_count = made->profile_->output_count;
  } else {
    made->profile_ = ProfileArchitecture(spec);
  }
  if (archive) made->channels_found_ = made->FindChannels(spec);
  Way dense{.name = "float32"};
  dense.spec = spec;
  FEDWATT_ASSIGN_OR_RETURN(dense.trainer, made->MakeTrainer(spec));
  if (!made->has_data_) {
    FEDWATT_ASSIGN_OR_RETURN(made->data_.train, Synthetic(spec, /*tokens=*/false));
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> model, dense.trainer->InitialModel(1));
    FEDWATT_ASSIGN_OR_RETURN(const Dataset one, made->data_.train.Subset({0, 1}));
    if (absl::Status scored = dense.trainer->Evaluate(model, one, made->recipe_.loss).status(); absl::IsInvalidArgument(scored)) {
      // Tokens are the second guess: what numbers met tells more.
      FEDWATT_ASSIGN_OR_RETURN(Dataset words, Synthetic(spec, /*tokens=*/true));
      FEDWATT_ASSIGN_OR_RETURN(const Dataset sentence, words.Subset({0, 1}));
      if (!dense.trainer->Evaluate(model, sentence, made->recipe_.loss).ok()) return scored;
      made->data_.train = std::move(words);
    }
    made->data_.test = made->data_.train;
  }
  dense.parameters = ParameterCount(dense.trainer->layout());
  dense.macs = MacsOf(made->profile_);
  dense.model_bytes = 4 * dense.trainer->layout().value_count();
  made->ways_.reserve(4);  // tasks borrow them
  made->ways_.push_back(std::move(dense));
  made->AddHalfWidth();
  made->AddBfloat16();
  FEDWATT_RETURN_IF_ERROR(made->AddInt8());
  for (const Way& way : made->ways_) {
    if (way.trainer == nullptr) continue;
    FEDWATT_ASSIGN_OR_RETURN(made->initial_[&way], way.trainer->InitialModel(1));
  }
  return made;
}

void Subject::AddHalfWidth() {
  Way way{.name = "half width"};
  way.spec = base().spec;
  const std::vector<ChannelGroup> groups = base().trainer->channel_groups();
  if (!channels_found_.ok()) {
    way.problem = absl::StrCat("which channels of the archive can be dropped is not known: ", std::string(channels_found_.message()));
  } else if (groups.empty()) {
    way.problem = archive_path_.empty() ? "this architecture has no hidden channels that could be dropped" : Summarise(*channels_);
  } else {
    way.spec.kept = HalfOf(groups);
    absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTrainer(way.spec);
    if (trainer.ok()) {
      way.trainer = *std::move(trainer);
      way.parameters = ParameterCount(way.trainer->layout());
      // Of a narrower copy of an archive Profile() counts none: unknown, not zero.
      if (archive_path_.empty()) way.macs = MacsOf(ProfileArchitecture(way.spec));
      way.model_bytes = 4 * way.trainer->layout().value_count();
    } else {
      way.problem = std::string(trainer.status().message());
    }
  }
  ways_.push_back(std::move(way));
}

void Subject::AddBfloat16() {
  Way way{.name = "bfloat16", .number_format = "bfloat16", .infers = false};
  way.spec = base().spec;
  if (absl::Status able = base().trainer->CheckNumberFormat("bfloat16"); !able.ok()) way.problem = std::string(able.message());
  way.parameters = base().parameters;
  way.macs = base().macs;
  way.model_bytes = base().model_bytes;  // parameters stay float32
  ways_.push_back(std::move(way));
}

absl::Status Subject::AddInt8() {
  Way way{.name = "int8"};
  way.spec = base().spec;
  way.parameters = base().parameters;
  way.macs = base().macs;
  if (!archive_path_.empty()) {
    way.problem = "archives have no int8 form here";
    ways_.push_back(std::move(way));
    return absl::OkStatus();
  }
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> model, base().trainer->InitialModel(1));
  FEDWATT_RETURN_IF_ERROR(WithInt8(base().spec, model, data_.train, recipe_.loss, [&](const Int8Delivery& delivery, const std::string& path) -> absl::Status {
    if (!delivery.path.has_value()) {
      way.problem = delivery.missing_reason.value_or("no int8 form");
      return absl::OkStatus();
    }
    way.model_bytes = delivery.bytes;
    FEDWATT_ASSIGN_OR_RETURN(int8_, LoadArchive(base().spec, path));
    return absl::OkStatus();
  }));
  if (way.problem.empty()) {
    way.spec.quantization = "int8";
    absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(way.spec);
    if (trainer.ok()) way.trainer = *std::move(trainer);
    way.trains = trainer.ok();
  }
  ways_.push_back(std::move(way));
  return absl::OkStatus();
}

absl::StatusOr<const Dataset*> Subject::Examples(int64_t count) {
  auto [it, added] = repeated_.try_emplace(count);
  if (added) {
    std::vector<int32_t> indices(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) indices[static_cast<size_t>(i)] = static_cast<int32_t>(i % data_.train.size());
    FEDWATT_ASSIGN_OR_RETURN(it->second, data_.train.Subset(std::move(indices)));
  }
  return &it->second;
}

absl::Status Subject::Infer(const Way& way, int64_t batches) {
  const int64_t most = std::max<int64_t>(1, kMostExampleBytes / (4 * data_.train.store().input_size()));
  for (int64_t left = batches * recipe_.batch_size; left > 0; left -= most) {
    FEDWATT_ASSIGN_OR_RETURN(const Dataset* examples, Examples(std::min(left, most)));
    if (way.name == "int8") {
      FEDWATT_RETURN_IF_ERROR(int8_(*examples, recipe_.loss).status());
    } else {
      FEDWATT_RETURN_IF_ERROR(TrainerOf(way).Evaluate(initial_.at(way.trainer != nullptr ? &way : &base()), *examples, recipe_.loss).status());
    }
  }
  return absl::OkStatus();
}

absl::Status Subject::Train(const Way& way, int64_t steps) {
  TrainingRecipe recipe = recipe_;
  recipe.local_steps = static_cast<int32_t>(steps);
  recipe.number_format = way.number_format;
  recipe.client_learning_rate = 1e-6;  // so many steps from one model must not diverge
  const std::vector<float>& from = initial_.at(way.trainer != nullptr ? &way : &base());
  std::vector<float> to(from.size());
  FEDWATT_ASSIGN_OR_RETURN(const Dataset* examples, Examples(std::max<int64_t>(recipe.batch_size, std::min<int64_t>(data_.train.size(), 1024))));
  return TrainerOf(way).Train(from, *examples, recipe, 1, {}, absl::MakeSpan(to)).status();
}

std::vector<Task> Subject::Tasks() {
  std::vector<Task> tasks;
  for (const bool training : {false, true}) {
    for (const Way& way : ways_) {
      if (!way.problem.empty() || !(training ? way.trains : way.infers)) continue;
      tasks.push_back({way.name, training ? "training" : "inference", recipe_.batch_size,
                       [this, &way, training](int64_t repeats) { return training ? Train(way, repeats) : Infer(way, repeats); }});
    }
  }
  return tasks;
}

absl::StatusOr<std::vector<std::optional<double>>> Subject::Accuracies(uint64_t seed, int32_t steps) {
  std::vector<int32_t> chosen;
  const int64_t count = std::min(data_.test.size(), kMostTestExamples);
  for (int64_t i = 0; i < count; ++i) chosen.push_back(static_cast<int32_t>(i * data_.test.size() / count));
  FEDWATT_ASSIGN_OR_RETURN(const Dataset test, data_.test.Subset(std::move(chosen)));
  std::vector<std::optional<double>> accuracies;
  std::vector<float> dense;  // trained
  for (const Way& way : ways_) {
    std::optional<double>& accuracy = accuracies.emplace_back();
    if (!way.problem.empty()) continue;
    EvaluationResult scored;
    if (way.name == "int8") {
      // What a run delivers: the trained float32 model, converted.
      FEDWATT_RETURN_IF_ERROR(WithInt8(base().spec, dense, data_.train, recipe_.loss, [&](const Int8Delivery&, const std::string& path) -> absl::Status {
        FEDWATT_ASSIGN_OR_RETURN(scored, EvaluateArchive(base().spec, path, test, recipe_.loss));
        return absl::OkStatus();
      }));
    } else {
      LocalTrainer& trainer = TrainerOf(way);
      TrainingRecipe recipe = recipe_;
      recipe.local_steps = steps;
      recipe.number_format = way.number_format;
      FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> from, trainer.InitialModel(seed));
      std::vector<float> to(from.size());
      const absl::Status trained = trainer.Train(from, data_.train, recipe, seed, {}, absl::MakeSpan(to)).status();
      if (absl::IsAborted(trained) && &way != &base()) continue;  // it diverged where float32 did not
      if (!trained.ok()) return trained;
      FEDWATT_ASSIGN_OR_RETURN(scored, trainer.Evaluate(to, test, recipe_.loss));
      if (&way == &base()) dense = std::move(to);
    }
    if (scored.has_accuracy) accuracy = scored.accuracy;
  }
  return accuracies;
}

}  // namespace fedwatt::tool
