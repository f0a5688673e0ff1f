// What meters an audit: the whole machine, or a model of a busy core.
#ifndef FEDWATT_TOOL_AUDIT_METERING_H_
#define FEDWATT_TOOL_AUDIT_METERING_H_

#include <memory>
#include <optional>

#include "audit/findings.h"
#include "fedwatt/config/settings.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt::tool {

// The meter that the settings ask for, of all that it counts: not the part of this process, since idle power is asked for too and an archive works in another
// process. Null where there is none; `findings` then has the watts of a model, unless energy.meter is "none". Fills findings.meter, tier and watts.
// Errors: those of ChooseMeter
absl::StatusOr<std::unique_ptr<Meter>> FindMeter(const Settings& settings, Findings& findings);

// Watts at rest, over blocks of 3 s, 15 s in all. Nullopt where fewer than two blocks were read.
std::optional<Interval> IdleWatts(Meter& meter);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_AUDIT_METERING_H_
