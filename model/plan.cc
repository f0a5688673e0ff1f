#include "fedwatt/model/plan.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

absl::Status Refuse(const char* field, const char* range, const absl::AlphaNum& value) {
  return absl::InvalidArgumentError(absl::StrCat("plan: ", field, " = ", value, ", expected ", range));
}

absl::Status CheckCodec(const char* field, const std::string& spelling) {
  if (spelling.empty() || spelling.size() > 1024) return Refuse(field, "[1, 1024] bytes", absl::StrCat(spelling.size(), " bytes"));
  return absl::OkStatus();
}

// Comparisons are written so that NaN fails each of them.
absl::Status ValidateArchitecture(const ArchitectureSpec& spec) {
  if (spec.name.empty()) return Refuse("architecture.name", "a name", "''");
  if (spec.input_shape.empty() || spec.input_shape.size() > 8) {
    return Refuse("architecture.input_shape", "[1, 8] dimensions", absl::StrCat(spec.input_shape.size(), " dimensions"));
  }
  int64_t count = 1;
  for (int64_t dimension : spec.input_shape) {
    if (dimension < 1 || dimension > (int64_t{1} << 31) / count) {
      return Refuse("architecture.input_shape", "dimensions >= 1 of at most 2^31 elements together", dimension);
    }
    count *= dimension;
  }
  if (!spec.quantization.empty() && spec.quantization != "int8") return Refuse("architecture.quantization", "int8 or nothing", absl::StrCat("'", spec.quantization.substr(0, 64), "'"));
  if (spec.output_count < 1) return Refuse("architecture.output_count", ">= 1", spec.output_count);
  for (const auto& [group, ranges] : spec.kept) {
    if (ranges.empty()) return Refuse("architecture.kept", "at least one range a group", absl::StrCat("none of '", group, "'"));
    int64_t last = -1;
    for (const ChannelRange& range : ranges) {
      if (range.begin <= last || range.end <= range.begin) {
        return Refuse("architecture.kept", "ranges in order that do not touch", absl::StrCat("[", range.begin, ", ", range.end, ") after ", last, " of '", group, "'"));
      }
      last = range.end;
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateRecipe(const TrainingRecipe& recipe) {
  if (recipe.local_steps < 0) return Refuse("recipe.local_steps", ">= 0", recipe.local_steps);
  if (recipe.local_steps == 0 && (recipe.local_epochs < 1 || recipe.local_epochs > 10000)) {
    return Refuse("recipe.local_epochs", "[1, 10000]", recipe.local_epochs);
  }
  if (recipe.batch_size < 1 || recipe.batch_size > 1'000'000) return Refuse("recipe.batch_size", "[1, 1e6]", recipe.batch_size);
  if (!(recipe.client_learning_rate > 0 && std::isfinite(recipe.client_learning_rate))) {
    return Refuse("recipe.client_learning_rate", "> 0 and finite", recipe.client_learning_rate);
  }
  if (!(recipe.momentum >= 0 && recipe.momentum < 1)) return Refuse("recipe.momentum", "[0, 1)", recipe.momentum);
  if (!(recipe.weight_decay >= 0 && std::isfinite(recipe.weight_decay))) {
    return Refuse("recipe.weight_decay", ">= 0 and finite", recipe.weight_decay);
  }
  if (!(recipe.proximal_mu >= 0 && std::isfinite(recipe.proximal_mu))) {
    return Refuse("recipe.proximal_mu", ">= 0 and finite", recipe.proximal_mu);
  }
  if (recipe.threads < 1 || recipe.threads > 1024) return Refuse("recipe.threads", "[1, 1024]", recipe.threads);
  if (recipe.loss.empty()) return Refuse("recipe.loss", "a name", "''");
  return absl::OkStatus();
}

absl::Status ValidateLimits(const UpdateLimits& limits) {
  if (!(limits.max_abs > 0 && std::isfinite(limits.max_abs))) return Refuse("limits.max_abs", "> 0 and finite", limits.max_abs);
  if (!(limits.max_norm >= 0 && std::isfinite(limits.max_norm))) return Refuse("limits.max_norm", ">= 0 and finite", limits.max_norm);
  if (limits.max_example_count < 1) return Refuse("limits.max_example_count", ">= 1", limits.max_example_count);
  if (limits.max_update_bytes < 1) return Refuse("limits.max_update_bytes", ">= 1", limits.max_update_bytes);
  return absl::OkStatus();
}

}  // namespace

bool IsNumberFormat(std::string_view name) { return name == "float32" || name == "bfloat16"; }

std::vector<std::string> AskedNumberFormats() { return {"auto", "bfloat16", "float32"}; }

absl::Status CheckAskedNumberFormat(std::string_view name) {
  for (const std::string& known : AskedNumberFormats()) {
    if (name == known) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("expected float32, bfloat16 or auto, got '", std::string(name.substr(0, 64)), "'"));
}

absl::Status ValidatePlan(const Plan& plan) {
  FEDWATT_RETURN_IF_ERROR(ValidateArchitecture(plan.architecture));
  FEDWATT_RETURN_IF_ERROR(ValidateRecipe(plan.recipe));
  if (!(plan.fit.width_fraction > 0 && plan.fit.width_fraction <= 1)) {
    return Refuse("fit.width_fraction", "(0, 1]", plan.fit.width_fraction);
  }
  if (!CheckAskedNumberFormat(plan.fit.number_format).ok()) return Refuse("fit.number_format", "float32, bfloat16 or auto", absl::StrCat("'", plan.fit.number_format.substr(0, 64), "'"));
  FEDWATT_RETURN_IF_ERROR(CheckCodec("uplink_codec", plan.uplink_codec));
  FEDWATT_RETURN_IF_ERROR(CheckCodec("downlink_codec", plan.downlink_codec));
  FEDWATT_RETURN_IF_ERROR(ValidateLimits(plan.limits));
  if (!(plan.clip_norm >= 0 && std::isfinite(plan.clip_norm))) return Refuse("clip_norm", ">= 0 and finite", plan.clip_norm);
  return absl::OkStatus();
}

uint64_t TrainingSeed(uint64_t run_seed, int64_t round, int64_t partition) {
  return DeriveSeed("train", {run_seed, static_cast<uint64_t>(round), static_cast<uint64_t>(partition)});
}

uint64_t EncodingSeed(uint64_t run_seed, int64_t round, int64_t partition) {
  return DeriveSeed("encode", {run_seed, static_cast<uint64_t>(round), static_cast<uint64_t>(partition)});
}

uint64_t InitialModelSeed(uint64_t run_seed) { return DeriveSeed("initial_model", {run_seed}); }

}  // namespace fedwatt
