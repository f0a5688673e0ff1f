// What a client insists on, whatever a coordinator asks.
#ifndef FEDWATT_CLIENT_FLOORS_H_
#define FEDWATT_CLIENT_FLOORS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

// Local policy: no message changes it. What it excludes is not offered at check-in, and a plan beyond it is declined before a model is fetched or an example
// looked at. Empty and 0 are no floor.
struct ClientFloors {
  std::vector<std::string> architectures;  // those that it trains and scores
  std::vector<std::string> codecs;         // those in which models and updates may be coded; the stages around them are free
  int64_t max_parameters = 0;              // of the model that it trains or scores, >= 0
  int64_t max_examples = 0;                // looked at in one attempt, every epoch counted, >= 0
  int64_t min_cohort = 0;                  // members asked in the same round, >= 0. Their number is the coordinator's word
};

// Errors: INVALID_ARGUMENT  a negative number, or a codec that is not registered
absl::Status ValidateClientFloors(const ClientFloors& floors);

bool AllowsArchitecture(const ClientFloors& floors, const std::string& name);
// Of any stage; those that are no codec are always allowed.
bool AllowsStage(const ClientFloors& floors, const std::string& name);

// Whether a client with `example_count` > 0 examples may train what the plan asks for, in a round of `cohort` members (0: the coordinator did not say).
// Errors: PERMISSION_DENIED  which floor, offered and asked
absl::Status CheckPlan(const ClientFloors& floors, const Plan& plan, int64_t example_count, int64_t cohort);

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_FLOORS_H_
