// A reading may be missing, which is not zero: whoever takes its joules must say what happens then.
#include "fedwatt/energy/quantities.h"

bool Sum(const fedwatt::EnergyReading& reading, fedwatt::Energy& total) {
#ifdef MISUSE
  fedwatt::Energy spent = reading.energy;
#else
  if (!reading.energy) return false;
  fedwatt::Energy spent = *reading.energy;
#endif
  total += spent;
  return true;
}
