// A bare number has no unit.
#include "fedwatt/energy/quantities.h"

#ifdef MISUSE
fedwatt::Energy spent = 5;
#else
fedwatt::Energy spent = fedwatt::Microjoules(5);
#endif
