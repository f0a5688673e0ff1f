// Settings into the option structs of the rooms that run: the same for the coordinator and for the simulated fleet, so that both run the same
// federation.
#ifndef FEDWATT_CONFIG_RUN_OPTIONS_H_
#define FEDWATT_CONFIG_RUN_OPTIONS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/config/settings.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/round/engine.h"
#include "fedwatt/round/global_model.h"

namespace fedwatt {

inline constexpr std::string_view kVersion = "0.1.0";

// "20261123-064855-3f9c1a": sortable by start, unlikely to repeat.
std::string NewRunId(const Clock& clock);

// The architecture with what only the data knows: shape of one example and number of outputs.
// Errors: INVALID_ARGUMENT  model.input_shape holds another number of values than an example of the data
absl::StatusOr<ArchitectureSpec> MakeArchitecture(const Settings& settings, const Dataset& data);

Plan MakePlan(const Settings& settings, const std::string& run_id, ArchitectureSpec architecture);

// The sites and their series, or null where no site is configured. Errors: the files'; as CarbonModel::Create
absl::StatusOr<std::shared_ptr<const CarbonModel>> MakeCarbonModel(const Settings& settings);

// How this process meters itself.
MeterOptions MakeMeterOptions(const Settings& settings);

EngineOptions MakeEngineOptions(const Settings& settings, const std::string& run_id);

GlobalModelOptions MakeGlobalModelOptions(const Settings& settings, Plan plan, const ParameterLayout& layout);

// The schedule as a function of the round, from 1.
std::function<double(int64_t)> MakeLearningRate(const Settings& settings);

}  // namespace fedwatt

#endif  // FEDWATT_CONFIG_RUN_OPTIONS_H_
