#include "fedwatt/client/floors.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/pipeline.h"

namespace fedwatt {
namespace {

template <typename... Parts>
absl::Status Declined(const Parts&... parts) {
  return absl::PermissionDeniedError(absl::StrCat("declined: this client ", parts...));
}

bool Has(const std::vector<std::string>& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

}  // namespace

absl::Status ValidateClientFloors(const ClientFloors& floors) {
  for (const auto& [name, value] : {std::pair("max_parameters", floors.max_parameters), std::pair("max_examples", floors.max_examples),
                                    std::pair("min_cohort", floors.min_cohort)}) {
    if (value < 0) return absl::InvalidArgumentError(absl::StrCat("client.", name, ": expected >= 0, got ", value));
  }
  for (const std::string& codec : floors.codecs) {
    if (!Has(Codecs().Names(), codec)) {
      return absl::InvalidArgumentError(absl::StrCat("client.codecs: '", codec, "' is not one of ", absl::StrJoin(Codecs().Names(), ", ")));
    }
  }
  return absl::OkStatus();
}

bool AllowsArchitecture(const ClientFloors& floors, const std::string& name) { return floors.architectures.empty() || Has(floors.architectures, name); }

bool AllowsStage(const ClientFloors& floors, const std::string& name) {
  return floors.codecs.empty() || Has(floors.codecs, name) || !Has(Codecs().Names(), name);
}

absl::Status CheckPlan(const ClientFloors& floors, const Plan& plan, int64_t example_count, int64_t cohort) {
  if (!AllowsArchitecture(floors, plan.architecture.name)) {
    return Declined("trains ", absl::StrJoin(floors.architectures, ", "), ", the plan is for ", plan.architecture.name);
  }
  FEDWATT_ASSIGN_OR_RETURN(const Pipeline uplink, Pipeline::Create(plan.uplink_codec));
  for (const std::string& stage : uplink.stage_names()) {
    if (!AllowsStage(floors, stage)) return Declined("codes updates with ", absl::StrJoin(floors.codecs, ", "), ", the plan with ", plan.uplink_codec);
  }
  const TrainingRecipe& recipe = plan.recipe;
  const int64_t examples = recipe.local_steps > 0 ? int64_t{recipe.local_steps} * recipe.batch_size : int64_t{recipe.local_epochs} * example_count;
  if (floors.max_examples > 0 && examples > floors.max_examples) {
    return Declined("looks at at most ", floors.max_examples, " examples in an attempt, the plan has it look at ", examples);
  }
  if (cohort < floors.min_cohort) return Declined("takes part beside at least ", floors.min_cohort, " members, the round has ", cohort);
  return absl::OkStatus();
}

}  // namespace fedwatt
