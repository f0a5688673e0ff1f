// What of a plan a client is told once, and what each round anew: a plan takes some 250 bytes and hardly ever changes.
#ifndef FEDWATT_RPC_HELD_PLAN_H_
#define FEDWATT_RPC_HELD_PLAN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/v1/coordinator.pb.h"

namespace fedwatt {

// Names everything in `plan` that PlanChanges can't say: 8 bytes of its SHA-256. Equal plans have equal ids in every process of one build.
std::string PlanId(const v1::Plan& plan);

// The coordinator's side. Says `plan` in an assignment: whole with its id, or, when the client holds the plan of that id, as changes.
template <typename Assignment>
void SayPlan(const v1::Plan& plan, const std::string& held_plan_id, Assignment* assignment) {
  const std::string id = PlanId(plan);
  if (id == held_plan_id) {
    assignment->mutable_plan_changes()->set_client_learning_rate(plan.recipe().client_learning_rate());
    assignment->mutable_plan_changes()->set_uplink_codec(plan.uplink_codec());
  } else {
    *assignment->mutable_plan() = plan;
    assignment->set_plan_id(id);
  }
}

// The client's side: the plan that it was told last. Owned by one thread.
class HeldPlan {
 public:
  // For WaitForWorkRequest.held_plan_id; "" when none is held.
  const std::string& id() const { return id_; }

  // The plan that an answer to a request with held_plan_id = id() means.
  // Errors: INVALID_ARGUMENT  neither a plan nor changes to one that is held, or an id beyond 32 bytes
  template <typename Assignment>
  absl::StatusOr<v1::Plan> Hear(const Assignment& assignment) {
    if (!assignment.has_plan()) {
      if (id_.empty() || !assignment.has_plan_changes()) return absl::InvalidArgumentError("plan: missing, and none is held that could be meant");
      plan_.mutable_recipe()->set_client_learning_rate(assignment.plan_changes().client_learning_rate());
      plan_.set_uplink_codec(assignment.plan_changes().uplink_codec());
      return plan_;
    }
    if (assignment.plan_id().size() > 32) return absl::InvalidArgumentError("plan_id: longer than 32 bytes");
    plan_ = assignment.plan();
    id_ = assignment.plan_id();
    return plan_;
  }

 private:
  std::string id_;
  v1::Plan plan_;
};

}  // namespace fedwatt

#endif  // FEDWATT_RPC_HELD_PLAN_H_
