// Whose joules a machine's joules are: shares by CPU time that never exceed the whole.
#ifndef FEDWATT_ENERGY_ATTRIBUTION_H_
#define FEDWATT_ENERGY_ATTRIBUTION_H_

#include <memory>

#include "fedwatt/energy/meter.h"

namespace fedwatt {

// This process's part (with options.thread_scope: the calling thread's part) of what `meter` reads:
//   energy = gross * (its CPU time / the CPU time of the whole machine), rounded down
// `gross` is kept beside it, and `idle`, the same part of the machine's idle power, where options.calibration knows it for this meter. Processes that
// share a machine so never count a joule twice; joules of other processes, and of a machine that does nothing, are nobody's here. The interval covers the meter's own
// and the kernel's ticks, not that instructions differ: by the same CPU time, vector code may draw two to four times what other code does.
// Where ROOT/proc/stat cannot be read, all of the joules stay whole, as Describe then says.
std::unique_ptr<Meter> ShareByCpuTime(std::unique_ptr<Meter> meter, const MeterOptions& options);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_ATTRIBUTION_H_
