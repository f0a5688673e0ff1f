// Bugs on purpose, by which the fault simulation is measured: built in with -DFEDWATT_PLANT_BUGS=ON only, and even then asleep until one is chosen.
#ifndef FEDWATT_BASE_PLANTED_H_
#define FEDWATT_BASE_PLANTED_H_

#ifdef FEDWATT_PLANT_BUGS
#include <string_view>

namespace fedwatt {
// From now on this one is awake, and no other; "": none. Before threads start.
void PlantBug(std::string_view name);
bool BugIsPlanted(std::string_view name);
}  // namespace fedwatt

#define FEDWATT_PLANTED(name) ::fedwatt::BugIsPlanted(#name)
#else
#define FEDWATT_PLANTED(name) false
#endif

#endif  // FEDWATT_BASE_PLANTED_H_
