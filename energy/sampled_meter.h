// A meter whose long windows are looked at from a thread of their own.
#ifndef FEDWATT_ENERGY_SAMPLED_METER_H_
#define FEDWATT_ENERGY_SAMPLED_METER_H_

#include <memory>

#include "fedwatt/energy/meter.h"

namespace fedwatt {

// `meter` itself where its SamplePeriod is infinite. Otherwise one that calls Sample at least that often, from a thread that ends with it.
std::unique_ptr<Meter> SampleInBackground(std::unique_ptr<Meter> meter);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_SAMPLED_METER_H_
