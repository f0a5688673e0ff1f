#include "fedwatt/energy/quantities.h"

int main() { return fedwatt::Joules(1.5) == fedwatt::Microjoules(1500000) ? 0 : 1; }
