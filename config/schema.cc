#include "schema.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/aggregation/server_optimizer.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/round/compression_settings.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/device_class.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/selection.h"

namespace fedwatt::internal {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A range of numbers; a bracket that is open excludes its end.
struct Range {
  double low = -kInfinity;
  double high = kInfinity;
  bool low_open = false;
  bool high_open = false;

  bool Contains(double value) const {
    return std::isfinite(value) && (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
  }
  std::string Text() const {
    if (high == kInfinity) return absl::StrCat(low_open ? "> " : ">= ", low);
    return absl::StrCat("in ", low_open ? "(" : "[", low, ", ", high, high_open ? ")" : "]");
  }
};
constexpr Range AtLeast(double low) { return {.low = low}; }
constexpr Range MoreThan(double low) { return {.low = low, .low_open = true}; }
constexpr Range Within(double low, double high) { return {.low = low, .high = high}; }
constexpr Range OpenUnit() { return {.low = 0, .high = 1, .low_open = true, .high_open = true}; }  // (0, 1)
constexpr Range LeftOpenUnit() { return {.low = 0, .high = 1, .low_open = true}; }                 // (0, 1]
constexpr Range RightOpenUnit() { return {.low = 0, .high = 1, .high_open = true}; }               // [0, 1)

template <typename T>
using Access = T& (*)(Settings&);

template <typename T>
const T& Get(Access<T> access, const Settings& settings) {
  return access(const_cast<Settings&>(settings));
}

// The shortest text that reads back as the same number.
std::string NumberText(double value) {
  std::string text = absl::StrCat(value);  // six digits
  double back = 0;
  if (absl::SimpleAtod(text, &back) && back == value) return text;
  char digits[40];
  std::snprintf(digits, sizeof(digits), "%.17g", value);
  return digits;
}

template <typename Integer>
Key IntegerKey(std::string name, Access<Integer> access, Range range, std::string help) {
  const std::string type = absl::StrCat("integer ", range.Text());
  return {std::move(name),
          type,
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) -> std::string {
            const auto* value = node.as_integer();
            if (!value || !range.Contains(static_cast<double>(value->get())) || !std::in_range<Integer>(value->get()))
              return type;
            access(settings) = static_cast<Integer>(value->get());
            return "";
          },
          [=](const Settings& settings) { return absl::StrCat(Get(access, settings)); }};
}

std::string SetNumber(const toml::node& node, const Range& range, const std::string& type, double& out) {
  double value = 0;
  if (const auto* floating = node.as_floating_point()) {
    value = floating->get();
  } else if (const auto* integer = node.as_integer()) {
    value = static_cast<double>(integer->get());
  } else {
    return type;
  }
  if (!range.Contains(value)) return type;
  out = value;
  return "";
}

Key NumberKey(std::string name, Access<double> access, Range range, std::string help) {
  const std::string type = absl::StrCat("number ", range.Text());
  return {std::move(name),
          type,
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) { return SetNumber(node, range, type, access(settings)); },
          [=](const Settings& settings) { return NumberText(Get(access, settings)); }};
}

Key OptionalNumberKey(std::string name, Access<std::optional<double>> access, Range range, std::string help) {
  const std::string type = absl::StrCat("number ", range.Text());
  return {std::move(name),
          type,
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) {
            double value = 0;
            std::string problem = SetNumber(node, range, type, value);
            if (problem.empty()) access(settings) = value;
            return problem;
          },
          [=](const Settings& settings) {
            const std::optional<double>& value = Get(access, settings);
            return value ? NumberText(*value) : std::string();
          }};
}

Key BoolKey(std::string name, Access<bool> access, std::string help) {
  return {std::move(name),
          "true or false",
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) -> std::string {
            const auto* value = node.as_boolean();
            if (!value) return "true or false";
            access(settings) = value->get();
            return "";
          },
          [=](const Settings& settings) -> std::string { return Get(access, settings) ? "true" : "false"; }};
}

// `parse` stores the text or returns what is expected.
Key TextKey(std::string name, std::string type, std::string help, std::function<bool(Settings&, const std::string&)> parse,
            std::function<std::string(const Settings&)> show) {
  return {std::move(name),
          type,
          std::move(help),
          true,
          [type, parse = std::move(parse)](Settings& settings, const toml::node& node) -> std::string {
            const auto* value = node.as_string();
            return value && parse(settings, value->get()) ? "" : type;
          },
          std::move(show)};
}

Key StringKey(std::string name, Access<std::string> access, std::string help) {
  return TextKey(
      std::move(name), "string", std::move(help),
      [=](Settings& settings, const std::string& text) {
        access(settings) = text;
        return true;
      },
      [=](const Settings& settings) { return Get(access, settings); });
}

Key NonEmptyKey(std::string name, Access<std::string> access, std::string help) {
  return TextKey(
      std::move(name), "non-empty string", std::move(help),
      [=](Settings& settings, const std::string& text) {
        access(settings) = text;
        return !text.empty();
      },
      [=](const Settings& settings) { return Get(access, settings); });
}

// One of a fixed list, kept as an enum or as the string itself.
template <typename T>
Key ChoiceKey(std::string name, Access<T> access, std::vector<std::pair<std::string, T>> choices, std::string help) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  return TextKey(
      std::move(name), absl::StrCat("one of ", absl::StrJoin(names, ", ")), std::move(help),
      [=](Settings& settings, const std::string& text) {
        for (const auto& [spelling, value] : choices) {
          if (spelling == text) {
            access(settings) = value;
            return true;
          }
        }
        return false;
      },
      [=](const Settings& settings) {
        for (const auto& [spelling, value] : choices) {
          if (value == Get(access, settings)) return spelling;
        }
        return std::string();
      });
}

Key StringChoiceKey(std::string name, Access<std::string> access, const std::vector<std::string>& names, std::string help) {
  std::vector<std::pair<std::string, std::string>> choices;
  for (const std::string& choice : names) choices.emplace_back(choice, choice);
  return ChoiceKey<std::string>(std::move(name), access, std::move(choices), std::move(help));
}

Key DurationKey(std::string name, Access<absl::Duration> access, std::string help) {
  return TextKey(
      std::move(name), "duration > 0 with a unit, such as \"60s\" or \"1h30m\"", std::move(help),
      [=](Settings& settings, const std::string& text) {
        return absl::ParseDuration(text, &access(settings)) && access(settings) > absl::ZeroDuration() &&
               access(settings) < absl::InfiniteDuration();
      },
      [=](const Settings& settings) { return absl::FormatDuration(Get(access, settings)); });
}

Key SpanKey(std::string name, Access<absl::Duration> access, std::string help) {
  return TextKey(
      std::move(name), "duration >= 0 with a unit, such as \"24h\", or \"0\"", std::move(help),
      [=](Settings& settings, const std::string& text) {
        return absl::ParseDuration(text, &access(settings)) && access(settings) >= absl::ZeroDuration() && access(settings) < absl::InfiniteDuration();
      },
      [=](const Settings& settings) { return absl::FormatDuration(Get(access, settings)); });
}

Energy AmountOf(double value, Energy) { return Joules(value); }
CarbonMass AmountOf(double value, CarbonMass) { return GramsOfCarbon(value); }
double ValueOf(Energy energy) { return energy.joules(); }
double ValueOf(CarbonMass mass) { return mass.grams(); }

// Joules or grams; unset where nothing is said.
template <typename Amount>
Key AmountKey(std::string name, std::optional<Amount>& (*access)(Settings&), std::string help) {
  const Range range = {.low = 0, .high = 1e12, .low_open = true};
  const std::string type = absl::StrCat("number ", range.Text());
  return {std::move(name), type, std::move(help), false,
          [=](Settings& settings, const toml::node& node) {
            double value = 0;
            std::string problem = SetNumber(node, range, type, value);
            if (problem.empty()) access(settings) = AmountOf(value, Amount());
            return problem;
          },
          [=](const Settings& settings) {
            const std::optional<Amount>& amount = access(const_cast<Settings&>(settings));
            return amount ? NumberText(ValueOf(*amount)) : std::string();
          }};
}

Key PowerKey(std::string name, Access<Power> access, std::string help) {
  const Range range = Within(0, 1e6);
  const std::string type = absl::StrCat("number ", range.Text());
  return {std::move(name), type, std::move(help), false,
          [=](Settings& settings, const toml::node& node) {
            double value = 0;
            std::string problem = SetNumber(node, range, type, value);
            if (problem.empty()) access(settings) = Watts(value);
            return problem;
          },
          [=](const Settings& settings) { return NumberText(Get(access, settings).watts()); }};
}

// `parse` takes a node to an item, or to nothing; `format` appends an item to a string.
template <typename Item, typename Parse, typename Format>
Key ListKey(std::string name, Access<std::vector<Item>> access, std::string type, std::string help, Parse parse, Format format, size_t most = SIZE_MAX) {
  return {std::move(name),
          type,
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) -> std::string {
            const auto* array = node.as_array();
            if (!array || array->size() > most) return type;
            std::vector<Item> items;
            for (const toml::node& one : *array) {
              std::optional<Item> item = parse(one);
              if (!item.has_value()) return type;
              items.push_back(*std::move(item));
            }
            access(settings) = std::move(items);
            return "";
          },
          [=](const Settings& settings) { return absl::StrCat("[", absl::StrJoin(Get(access, settings), ",", format), "]"); }};
}

// Of integers or of numbers.
template <typename Number>
Key NumberListKey(std::string name, Access<std::vector<Number>> access, Range range, std::string help) {
  std::string type = absl::StrCat("array of ", std::is_integral_v<Number> ? "integers " : "numbers ", range.Text());
  return ListKey(
      std::move(name), std::move(access), type, std::move(help),
      [=](const toml::node& node) -> std::optional<Number> {
        double value = 0;
        if (!SetNumber(node, range, type, value).empty() || (std::is_integral_v<Number> && !node.is_integer())) return std::nullopt;
        return static_cast<Number>(value);
      },
      [](std::string* out, Number value) { absl::StrAppend(out, NumberText(static_cast<double>(value))); });
}

Key ShapeKey(std::string name, Access<std::vector<int64_t>> access, std::string help) {
  return ListKey(
      std::move(name), std::move(access), "array of at most 8 integers >= 1, such as [1,28,28]", std::move(help),
      [](const toml::node& node) -> std::optional<int64_t> {
        const auto* value = node.as_integer();
        if (!value || value->get() < 1 || value->get() > (int64_t{1} << 31)) return std::nullopt;
        return value->get();
      },
      [](std::string* out, int64_t value) { absl::StrAppend(out, value); }, /*most=*/8);
}

Key StringListKey(std::string name, Access<std::vector<std::string>> access, std::string help) {
  return ListKey(
      std::move(name), std::move(access), "array of strings, such as [\"a\",\"b\"]", std::move(help),
      [](const toml::node& node) -> std::optional<std::string> {
        const auto* value = node.as_string();
        if (!value || value->get().empty()) return std::nullopt;
        return value->get();
      },
      [](std::string* out, const std::string& value) { absl::StrAppend(out, "\"", value, "\""); });
}

// Values may be strings, numbers or booleans; the architecture reads them as text.
Key OptionsKey(std::string name, Access<std::map<std::string, std::string>> access, std::string help) {
  const std::string type = "table of strings, numbers and booleans";
  return {std::move(name),
          type,
          std::move(help),
          false,
          [=](Settings& settings, const toml::node& node) -> std::string {
            const auto* table = node.as_table();
            if (!table) return type;
            for (const auto& [key, value] : *table) {
              std::string text;
              if (const auto* string = value.as_string())
                text = string->get();
              else if (const auto* integer = value.as_integer())
                text = absl::StrCat(integer->get());
              else if (const auto* number = value.as_floating_point())
                text = NumberText(number->get());
              else if (const auto* boolean = value.as_boolean())
                text = boolean->get() ? "true" : "false";
              else
                return type;
              access(settings)[std::string(key.str())] = text;
            }
            return "";
          },
          [=](const Settings& settings) {
            return absl::StrCat("{", absl::StrJoin(Get(access, settings), ", ", absl::PairFormatter(" = ")), "}");
          }};
}

bool ParseDeviceMix(const std::string& text, std::vector<DeviceShare>& out) {
  std::vector<DeviceShare> mix;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> pieces = absl::StrSplit(part, absl::MaxSplits(':', 1));
    DeviceShare share{pieces.first, 1};
    if (share.name.empty()) return false;
    if (absl::StrContains(part, ":") &&
        (!absl::SimpleAtod(pieces.second, &share.share) || !std::isfinite(share.share) || share.share <= 0))
      return false;
    mix.push_back(share);
  }
  out = std::move(mix);
  return true;
}

std::string ShowDeviceMix(const std::vector<DeviceShare>& mix) {
  if (mix.size() == 1) return mix[0].name;
  return absl::StrJoin(mix, ",", [](std::string* out, const DeviceShare& share) {
    absl::StrAppend(out, share.name, ":", NumberText(share.share));
  });
}

// A name that another room knows. `check` asks that room, whose message lists what it knows.
Key NameKey(std::string name, Access<std::string> access, std::string help,
            std::function<absl::Status(const std::string&)> check) {
  Key key = NonEmptyKey(std::move(name), access, std::move(help));
  key.check = [=](const Settings& settings) { return check(Get(access, settings)); };
  return key;
}

// The same, where nothing means that the name comes from elsewhere.
Key OptionalNameKey(std::string name, Access<std::string> access, std::string help, absl::Status (*check)(std::string_view)) {
  Key key = StringKey(std::move(name), access, std::move(help));
  key.check = [=](const Settings& settings) { return Get(access, settings).empty() ? absl::OkStatus() : check(Get(access, settings)); };
  return key;
}

absl::Status CheckMeter(const std::string& name) {
  return name == "auto" || name == "none" ? absl::OkStatus() : Meters().Find(name).status();
}

// Reaches a field from a Settings.
#define FIELD(type, path) static_cast<Access<type>>([](Settings& s) -> type& { return s.path; })

std::vector<Key> MakeSchema() {
  std::vector<Key> keys;
  const auto add = [&keys](Key key) { keys.push_back(std::move(key)); };

  add(NonEmptyKey("model.architecture", FIELD(std::string, model.architecture.name), "built-in architecture's name"));
  add(StringKey("model.torchscript", FIELD(std::string, model.torchscript),
                "path of a TorchScript archive to train; sets model.architecture to torchscript"));
  add(ChoiceKey<bool>("model.sandbox", FIELD(bool, model.sandbox.required), {{"required", true}, {"best", false}},
                      "required = an archive runs only where the kernel filters its system calls; best = with whatever walls the kernel has"));
  add(IntegerKey("model.max_memory_bytes", FIELD(int64_t, model.sandbox.memory_bytes), Within(0, 1e15),
                 "an archive's process may take this much beyond what it starts with; 0 = three quarters of the machine's memory"));
  add(DurationKey("model.max_silence", FIELD(absl::Duration, model.sandbox.max_silence),
                  "an archive's process is killed when it neither loads, answers nor ends a step for this long"));
  add(ShapeKey("model.input_shape", FIELD(std::vector<int64_t>, model.architecture.input_shape),
                     "shape of one example; empty = as the data has it"));
  using Options = std::map<std::string, std::string>;
  add(OptionsKey("model.options", FIELD(Options, model.architecture.options), "the architecture's own options, such as dropout"));

  add(StringKey("data.path", FIELD(std::string, data.path), "file or folder of the training data"));
  add(StringKey("data.test_path", FIELD(std::string, data.test_path),
                "test data; empty = the format's own part, or a held-out fraction"));
  add(StringChoiceKey("data.format", FIELD(std::string, data.format), Readers().Names(), "how the data is stored"));
  add(StringChoiceKey("data.normalization", FIELD(std::string, data.normalization), {"unit", "standard", "none"},
                      "unit = bytes / 255; standard = mean 0, deviation 1 per channel of the training part; none"));
  add(IntegerKey("data.sequence_length", FIELD(int64_t, data.sequence_length), Within(1, 65536), "text: characters per example; associative_recall: tokens"));
  add(IntegerKey("data.examples", FIELD(int64_t, data.examples), Within(2, 1e9), "associative_recall: examples to generate, both parts together"));
  add(IntegerKey("data.seed", FIELD(uint64_t, data.seed), Within(0, 9e15), "associative_recall: what examples are generated from"));
  add(NumberKey("data.held_out_fraction", FIELD(double, data.held_out_fraction), OpenUnit(),
                "associative_recall, and csv and text without a test part: fraction of examples kept for testing"));
  add(BoolKey("data.regression", FIELD(bool, data.regression), "csv: the last column is a number to predict, not a class"));

  add(StringChoiceKey("partition.kind", FIELD(std::string, partition.kind), Partitioners().Names(),
                      "how the training data is cut into clients' parts"));
  add(NumberKey("partition.alpha", FIELD(double, partition.alpha), MoreThan(0),
                "dirichlet: concentration; small = very different clients"));
  add(IntegerKey("partition.clients", FIELD(int64_t, partition.clients), Within(0, 1e7),
                 "parts; 0 = one per natural group, or given by client.partition"));
  add(IntegerKey("partition.shards_per_client", FIELD(int64_t, partition.shards_per_client), Within(1, 1e6),
                 "label_shards: label-sorted shards per client"));
  add(IntegerKey("partition.min_examples", FIELD(int64_t, partition.min_examples), Within(1, 1e9),
                 "natural: groups with fewer training examples take no part"));

  add(IntegerKey("federation.rounds", FIELD(int64_t, federation.rounds), Within(1, 1e9), "rounds to run at most"));
  add(IntegerKey("federation.clients_per_round", FIELD(int64_t, federation.clients_per_round), Within(0, 1e7),
                 "clients whose updates a round wants; 0 = all"));
  add(IntegerKey("federation.wait_for_clients", FIELD(int64_t, federation.wait_for_clients), Within(1, 1e7),
                 "clients that must be there before the first round; default = clients_per_round"));
  add(NumberKey("federation.quorum", FIELD(double, federation.quorum), LeftOpenUnit(),
                "fewest accepted updates, as a fraction of clients_per_round, with which the deadline commits a round"));
  add(DurationKey("federation.deadline", FIELD(absl::Duration, federation.deadline), "longest time a round collects updates"));
  add(NumberKey("federation.over_selection", FIELD(double, federation.over_selection), Within(0, 10),
                "extra clients selected, as a fraction of clients_per_round; the slowest are not waited for"));
  add(OptionalNumberKey("federation.target_accuracy", FIELD(std::optional<double>, federation.target_accuracy), LeftOpenUnit(),
                        "stop when the evaluated accuracy reaches this; unset = run all rounds"));
  add(IntegerKey("federation.evaluate_every", FIELD(int64_t, federation.evaluate_every), Within(1, 1e9),
                 "rounds between evaluations"));
  add(ChoiceKey<EvaluationMode>("federation.evaluation", FIELD(EvaluationMode, federation.evaluation),
                                {{"central", EvaluationMode::kCentral},
                                 {"federated", EvaluationMode::kFederated},
                                 {"both", EvaluationMode::kBoth},
                                 {"none", EvaluationMode::kNone}},
                                "on the coordinator's test data, on the clients' held-out parts, both, or not at all"));
  add(ChoiceKey<WidthEvaluation>("federation.evaluate_widths", FIELD(WidthEvaluation, federation.evaluate_widths),
                                 {{"never", WidthEvaluation::kNever}, {"last", WidthEvaluation::kLast}, {"always", WidthEvaluation::kAlways}},
                                 "when the coordinator also scores the model cut to each of fit.widths: never, after the last round, or at every evaluation"));
  add(NumberKey("federation.federated_held_out_fraction", FIELD(double, federation.federated_held_out_fraction), OpenUnit(),
                "fraction of its examples that a client keeps for federated evaluation"));

  add(IntegerKey("training.local_epochs", FIELD(int32_t, training.recipe.local_epochs), Within(1, 10000),
                 "passes over a client's data per round"));
  add(IntegerKey("training.local_steps", FIELD(int32_t, training.recipe.local_steps), Within(0, 1e9),
                 "steps per round instead of epochs; 0 = epochs"));
  add(ChoiceKey<std::string>("training.quantization", FIELD(std::string, model.architecture.quantization), {{"none", std::string()}, {"int8", "int8"}},
                             "int8: clients train the model for its delivery in 8-bit integers, rounding weights and activations as that will"));
  add(IntegerKey("training.batch_size", FIELD(int32_t, training.recipe.batch_size), Within(1, 1e6), "examples per step"));
  add(NumberKey("training.client_learning_rate", FIELD(double, training.recipe.client_learning_rate), MoreThan(0),
                "the clients' SGD step size in round 1"));
  add(ChoiceKey<LearningRateSchedule>("training.learning_rate_schedule", FIELD(LearningRateSchedule, training.schedule),
                                      {{"constant", LearningRateSchedule::kConstant},
                                       {"step", LearningRateSchedule::kStep},
                                       {"cosine", LearningRateSchedule::kCosine}},
                                      "how the step size changes over rounds"));
  add(NumberKey("training.learning_rate_decay", FIELD(double, training.learning_rate_decay), LeftOpenUnit(),
                "step schedule: factor"));
  add(IntegerKey("training.learning_rate_decay_every", FIELD(int64_t, training.learning_rate_decay_every), Within(1, 1e9),
                 "step schedule: rounds between two factors"));
  add(NumberKey("training.momentum", FIELD(double, training.recipe.momentum), RightOpenUnit(), "the clients' SGD momentum"));
  add(NumberKey("training.weight_decay", FIELD(double, training.recipe.weight_decay), AtLeast(0), "L2 penalty"));
  add(NumberKey("training.proximal_mu", FIELD(double, training.recipe.proximal_mu), AtLeast(0), "FedProx term; 0 = none"));
  add(IntegerKey("training.threads", FIELD(int32_t, training.recipe.threads), Within(1, 4096),
                 "kernel threads per trainer; anything but 1 makes results depend on the machine"));
  add(NonEmptyKey("training.loss", FIELD(std::string, training.recipe.loss), "loss by name: cross_entropy, masked_cross_entropy (classes that a client has no example of take no part in its training), mean_squared_error"));

  add(NameKey("aggregation.strategy", FIELD(std::string, aggregation.strategy), absl::StrJoin(StrategyNames(), ", "),
              [](const std::string& text) { return FindStrategy(text).status(); }));
  add(NumberKey("aggregation.server_learning_rate", FIELD(double, aggregation.server_learning_rate), AtLeast(0),
                "the coordinator's step size; 0 = the strategy's own default"));
  add(NumberKey("aggregation.momentum", FIELD(double, aggregation.momentum), RightOpenUnit(), "fedavgm: server momentum"));
  add(NumberKey("aggregation.beta1", FIELD(double, aggregation.beta1), RightOpenUnit(),
                "adaptive strategies: first moment's decay"));
  add(NumberKey("aggregation.beta2", FIELD(double, aggregation.beta2), RightOpenUnit(),
                "adaptive strategies: second moment's decay"));
  add(NumberKey("aggregation.tau", FIELD(double, aggregation.tau), MoreThan(0), "adaptive strategies: degree of adaptivity"));

  std::vector<std::string> presets;
  for (const CompressionPreset& preset : CompressionPresets()) presets.push_back(absl::StrCat(preset.name, " (", preset.help, ")"));
  add(NameKey("compression.preset", FIELD(std::string, compression.preset), absl::StrCat("both directions at once: ", absl::StrJoin(presets, ", ")),
              [](const std::string& text) { return FindCompressionPreset(text).status(); }));
  add(OptionalNameKey("compression.uplink", FIELD(std::string, compression.uplink),
              absl::StrCat("stages of updates, joined by commas: ", absl::StrJoin(StageNames(), ", "),
                           "; options as name:key=value; empty = the preset's"),
              CheckUplink));
  add(OptionalNameKey("compression.downlink", FIELD(std::string, compression.downlink),
              "stages of the global model, or chain:multiple=M, chain:step=S or chain:rate=R: increments to what a client holds; empty = the preset's",
              CheckDownlink));

  add(NumberKey("privacy.clip_norm", FIELD(double, privacy.clip_norm), AtLeast(0),
                "clients scale updates down to this L2 norm; 0 = no clipping"));
  add(NumberKey("privacy.max_norm", FIELD(double, privacy.limits.max_norm), AtLeast(0),
                "updates of a greater L2 norm are refused; 0 = no bound"));
  add(NumberKey("privacy.max_abs", FIELD(double, privacy.limits.max_abs), MoreThan(0),
                "updates with a value beyond this are refused"));
  add(IntegerKey("privacy.max_example_count", FIELD(int64_t, privacy.limits.max_example_count), Within(1, 2147483647),
                 "greatest weight of one update"));
  add(IntegerKey("privacy.max_update_bytes", FIELD(int64_t, privacy.limits.max_update_bytes), Within(1024, 1099511627776),
                 "greatest size of one encoded update"));

  add(NameKey("selection.policy", FIELD(std::string, selection.policy),
              absl::StrCat("how a round's clients are chosen: ", absl::StrJoin(SelectionPolicies().Names(), ", ")),
              [](const std::string& text) { return SelectionPolicies().Find(text).status(); }));
  add(NumberKey("selection.fairness", FIELD(double, selection.fairness), Within(0, 1),
                "energy_aware, carbon_aware: nobody is asked less often than this share of the mean"));
  add(SpanKey("selection.slack", FIELD(absl::Duration, selection.slack),
              "carbon_aware: by how much the end of the run may be put off to wait for cleaner electricity"));
  add(AmountKey<Energy>("budget.client_joules_per_day", [](Settings& s) -> std::optional<Energy>& { return s.budget.client_per_day; },
                "joules that one client may spend in a UTC day; unset = no bound"));
  add(AmountKey<Energy>("budget.round_joules", [](Settings& s) -> std::optional<Energy>& { return s.budget.per_round; },
                "joules that the clients of one round may spend; unset = no bound"));
  add(AmountKey<Energy>("budget.federation_joules", [](Settings& s) -> std::optional<Energy>& { return s.budget.federation; },
                "joules that all clients may spend in the run, which ends when they are spent; unset = no bound"));
  add(AmountKey<CarbonMass>("budget.federation_grams", [](Settings& s) -> std::optional<CarbonMass>& { return s.budget.federation_carbon; },
                "grams of CO2-equivalent that all clients may emit in the run; unset = no bound"));
  add(NumberKey("budget.battery_floor", FIELD(double, budget.battery_floor), Within(0, 1),
                "who runs on a battery with less charge than this fraction is not asked"));
  add(PowerKey("budget.max_watts", FIELD(Power, budget.max_power),
               "the most that a device can draw: what an attempt may cost at worst; needed with any budget"));
  add(NumberKey("budget.max_g_per_kwh", FIELD(double, budget.max_g_per_kwh), MoreThan(0),
                "the most that a grid emits: what a joule may cost at worst where its site is not known or forecasts fail"));
  add(NameKey("fit.policy", FIELD(std::string, fit.policy),
              absl::StrCat("how much of the model a client trains: ", absl::StrJoin(FitPolicies().Names(), ", ")),
              [](const std::string& text) { return FitPolicies().Find(text).status(); }));
  add(NumberListKey("fit.widths", FIELD(std::vector<double>, fit.widths), LeftOpenUnit(),
                    "shares of each layer's channels that clients train, widest first; fixed has one, the other policies a choice"));
  add(NumberListKey("fit.shares", FIELD(std::vector<double>, fit.shares), MoreThan(0),
                    "by_capability, by_turns: relative share of the clients for each width; empty = equal shares"));
  add(NumberListKey("fit.memory_mb", FIELD(std::vector<int64_t>, fit.memory_mb), Within(0, 1e9),
                    "by_capability: megabytes of memory that a device must report for each width, instead of shares"));
  add(NumberKey("fit.first", FIELD(double, fit.first), Within(0, 1),
                "by_budget: the width of a client that has measured nothing yet, one of fit.widths; 0 = the last of them"));
  add(NameKey("fit.channels", FIELD(std::string, fit.channels),
              absl::StrCat("which channels a width keeps: ", absl::StrJoin(ChannelPolicies().Names(), ", ")),
              [](const std::string& text) { return ChannelPolicies().Find(text).status(); }));
  add(NameKey("fit.format", FIELD(std::string, number_format),
              "number format of training: float32; bfloat16 wherever a client has instructions for it; auto, bfloat16 where a client measured it to be faster",
              [](const std::string& text) { return CheckAskedNumberFormat(text); }));
  add(IntegerKey("fit.live", FIELD(int64_t, fit.live), Within(0, 64),
                 "narrow models that get a downlink chain of their own; others are sent whole each time"));

  add(NumberKey("prune.target", FIELD(double, prune.target), LeftOpenUnit(),
                "share of the parameters that the federation's own model has left in the end; 1 = it is not pruned"));
  add(NameKey("prune.unit", FIELD(std::string, prune.unit),
              "what is cut: channels, so that the model is a smaller dense one; weights, single ones, which saves bytes alone", [](const std::string& text) {
                return text == "channels" || text == "weights" ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("expected channels or weights, got '", text, "'"));
              }));
  add(IntegerKey("prune.begin", FIELD(int64_t, prune.begin), Within(0, 1000000000), "round after which the first channels go; 0 = before the first round"));
  add(IntegerKey("prune.end", FIELD(int64_t, prune.end), Within(0, 1000000000), "round after which the last channels go"));
  add(IntegerKey("prune.every", FIELD(int64_t, prune.every), Within(1, 1000000000), "rounds from one cut to the next"));
  add(NameKey("prune.channels", FIELD(std::string, prune.channels),
              absl::StrCat("which channels are left: ", absl::StrJoin(ChannelPolicies().Names(), ", ")),
              [](const std::string& text) { return ChannelPolicies().Find(text).status(); }));
  add(NumberKey("prune.regrow", FIELD(double, prune.regrow), Within(0, 0.5),
                "share of the channels left that may give way to dropped ones at the first cut, falling to none at the last; 0 = what is gone stays away"));

  add(NameKey("energy.meter", FIELD(std::string, energy.meter),
              absl::StrCat("auto (the best available), none, or one of ", absl::StrJoin(Meters().Names(), ", ")), CheckMeter));
  add(NumberKey("energy.watts_per_core", FIELD(double, energy.watts_per_core), Within(0, 1000),
                "estimating meters: watts of one busy core; 0 = the built-in table's value"));
  add(StringKey("energy.source", FIELD(std::string, energy.source),
                "external: watts:FILE or joules:FILE, a file or pipe of time,value lines; replay: a CSV file; rails, battery, nvml: names to add, comma between them"));
  add(NameKey("energy.scope", FIELD(std::string, energy.scope),
              "of meters that cover the machine: process (this process's part by CPU time) or machine (all joules, other processes and idle power included)",
              [](const std::string& text) {
                return text == "process" || text == "machine" ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("expected process or machine, got '", text, "'"));
              }));
  add(StringKey("energy.calibration", FIELD(std::string, energy.calibration),
                "file that fedwatt calibrate wrote on this machine; empty = calibration-HOST.json in fedwatt's folder of the user's configuration"));
  Key device_class = TextKey(
      "energy.device_class",
      absl::StrCat("class, or mix such as \"phone:0.8,laptop:0.2\", of ", absl::StrJoin(DeviceClassNames(), ", ")),
      "fleet: what the simulated devices are",
      [](Settings& settings, const std::string& text) { return ParseDeviceMix(text, settings.energy.device_mix); },
      [](const Settings& settings) { return ShowDeviceMix(settings.energy.device_mix); });
  device_class.check = [](const Settings& settings) {
    for (const DeviceShare& share : settings.energy.device_mix) FEDWATT_RETURN_IF_ERROR(FindDeviceClass(share.name).status());
    return absl::OkStatus();
  };
  add(std::move(device_class));

  add(StringListKey("carbon.series", FIELD(std::vector<std::string>, carbon.series),
                    "CSV files of grid intensities over time; fedwatt carbon import makes them"));
  Key sites = StringListKey("carbon.sites", FIELD(std::vector<std::string>, carbon.sites),
                            "where devices stand: \"NAME zone=UK:13 g_per_kwh=475 pue=1 wue= embodied_kg= lifetime_years= share=1\"; empty = grams are not counted");
  sites.check = [](const Settings& settings) {
    for (const std::string& site : settings.carbon.sites) FEDWATT_RETURN_IF_ERROR(ParseCarbonSite(site).status());
    return absl::OkStatus();
  };
  add(std::move(sites));
  add(ChoiceKey<IntensityKind>("carbon.kind", FIELD(IntensityKind, carbon.kind),
                               {{"average", IntensityKind::kAverage}, {"marginal", IntensityKind::kMarginal}},
                               "which intensities count; the others are never looked at"));
  add(ChoiceKey<std::optional<EmissionFactor>>("carbon.factor", FIELD(std::optional<EmissionFactor>, carbon.factor),
                                               {{"any", std::nullopt},
                                                {"lifecycle", EmissionFactor::kLifecycle},
                                                {"direct", EmissionFactor::kDirect},
                                                {"unknown", EmissionFactor::kUnknown}},
                                               "which emission factors count; any = the only ones that a zone has"));
  add(StringKey("carbon.server_site", FIELD(std::string, carbon.server_site),
                "the coordinator's own site, one of carbon.sites; empty = its grams are not counted"));

  add(NonEmptyKey("security.directory", FIELD(std::string, security.directory),
                  "certificates and tokens; default = \"security\" beside the configuration file, or in the working folder"));
  add(DurationKey("security.certificate_lifetime", FIELD(absl::Duration, security.certificate_lifetime),
                  "of the certificates that the coordinator makes, at most 87600h; each is renewed by itself when a third is left"));
  add(BoolKey("security.insecure", FIELD(bool, security.insecure), "no TLS; only by the flag --insecure"));

  add(NonEmptyKey("server.listen", FIELD(std::string, server.listen), "address and port to listen on; port 0 = any free one"));
  add(StringListKey("server.names", FIELD(std::vector<std::string>, server.names),
                    "more names and addresses for the server's certificate"));

  add(NonEmptyKey("client.server", FIELD(std::string, client.server), "the coordinator's address and port"));
  add(StringKey("client.name", FIELD(std::string, client.name), "pseudonym in records; empty = derived from host and partition"));
  add(StringKey("client.state_directory", FIELD(std::string, client.state_directory),
                "identity and state that survive a restart; empty = nothing is kept"));
  add(TextKey(
      "client.partition", "part of how many, such as \"3/8\" or \"0-24/100\", counted from 0",
      "which part or parts of the training data this process trains on",
      [](Settings& settings, const std::string& text) {
        absl::StatusOr<PartitionRange> range = ParsePartitionRange(text);
        if (range.ok()) settings.client.partition = *range;
        return range.ok();
      },
      [](const Settings& settings) -> std::string {
        if (!settings.client.partition) return "";
        const PartitionRange& range = *settings.client.partition;
        return range.first == range.last ? absl::StrCat(range.first, "/", range.total)
                                         : absl::StrCat(range.first, "-", range.last, "/", range.total);
      }));
  add(StringKey("client.site", FIELD(std::string, client.site), "where this device stands, one of the coordinator's carbon.sites; empty = not known"));
  add(BoolKey("client.stay", FIELD(bool, client.stay), "wait for the next run when one has finished"));
  add(NumberKey("client.min_battery_percent", FIELD(double, client.min_battery_percent), Within(0, 100),
                "do not train below this charge; 0 = any"));
  add(BoolKey("client.require_charger", FIELD(bool, client.require_charger), "train only while charging"));
  add(IntegerKey("client.max_parameters", FIELD(int64_t, client.max_parameters), Within(0, 1e12), "decline to train a model of more parameters (fit.policy = by_budget then asks less); 0 = train any"));
  add(IntegerKey("client.max_examples", FIELD(int64_t, client.max_examples), Within(0, 1e15), "decline attempts that look at more examples, epochs counted; 0 = any"));
  add(IntegerKey("client.max_model_bytes", FIELD(int64_t, client.max_model_bytes), Within(1, 1e12), "decline to fetch a longer model"));
  add(IntegerKey("client.min_cohort", FIELD(int64_t, client.min_cohort), Within(0, 1e9), "decline rounds that the coordinator says have fewer members; 0 = any"));
  add(StringListKey("client.architectures", FIELD(std::vector<std::string>, client.architectures), "train and score these only; empty = any"));
  add(StringListKey("client.codecs", FIELD(std::vector<std::string>, client.codecs), "take models and send updates in these codecs only, see fedwatt codecs; empty = any"));
  add(BoolKey("client.allow_bfloat16", FIELD(bool, client.allow_bfloat16), "train in bfloat16 where the run asks for it (fit.format); false = always in float32"));
  add(BoolKey("client.allow_metered", FIELD(bool, client.allow_metered), "take part over a link that the system calls metered"));
  add(NumberKey("client.max_temperature_celsius", FIELD(double, client.max_temperature_celsius), Within(0, 150),
                "do not train above this; 0 = any"));

  add(ChoiceKey<Durability>("durability", FIELD(Durability, durability),
                            {{"update", Durability::kUpdate}, {"round", Durability::kRound}},
                            "update = what is acknowledged is on disk, and a coordinator that was killed goes on with the round; round = a crash repeats it"));
  add(IntegerKey("seed", FIELD(uint64_t, seed), AtLeast(0), "of everything random in the run"));
  add(StringKey("out", FIELD(std::string, out), "folder of the run record"));
  add(IntegerKey("simulation.workers", FIELD(int64_t, simulation_workers), Within(0, 4096),
                 "fleet: training threads; 0 = one per core"));
  add(BoolKey("simulation.batteries", FIELD(bool, simulation_batteries),
              "fleet: phones and laptops run on batteries that attempts drain and nights fill"));
  add(TextKey(
      "simulation.start", "time such as \"2026-03-01T00:00:00Z\"", "fleet: when its virtual time starts, which decides the intensities it meets",
      [](Settings& settings, const std::string& text) { return absl::ParseTime(absl::RFC3339_full, text, &settings.simulation_start, nullptr); },
      [](const Settings& settings) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", settings.simulation_start, absl::UTCTimeZone()); }));
  return keys;
}
#undef FIELD

}  // namespace

const std::vector<Key>& Schema() {
  static const auto* schema = new std::vector<Key>(MakeSchema());
  return *schema;
}

const Key* FindKey(std::string_view name) {
  for (const Key& key : Schema()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

}  // namespace fedwatt::internal
