// Built-in architectures of the same input and outputs, beside the model that is audited.
#ifndef FEDWATT_TOOL_AUDIT_ALTERNATIVES_H_
#define FEDWATT_TOOL_AUDIT_ALTERNATIVES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "audit/findings.h"
#include "audit/subject.h"
#include "fedwatt/audit/measure.h"

namespace fedwatt::tool {

// The subject in float32 first, named by what it is, then every architecture at its own default options, in order of name; those that do not take such inputs with the reason.
// Ratios are against the subject. Errors: as Measure.
absl::StatusOr<std::vector<Alternative>> CompareAlternatives(Subject& subject, const MeasureOptions& options);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_AUDIT_ALTERNATIVES_H_
