// Joules and watts do not add.
#include "fedwatt/energy/quantities.h"

fedwatt::Energy Total(fedwatt::Energy spent, fedwatt::Power power, absl::Duration span) {
#ifdef MISUSE
  return spent + power;
#else
  return spent + power * span;
#endif
}
