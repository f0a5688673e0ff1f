#include "fedwatt/base/planted.h"

#ifdef FEDWATT_PLANT_BUGS
#include <string>

namespace fedwatt {
namespace {

std::string& Awake() {
  static auto* name = new std::string;
  return *name;
}

}  // namespace

void PlantBug(std::string_view name) { Awake() = std::string(name); }
bool BugIsPlanted(std::string_view name) { return Awake() == name; }

}  // namespace fedwatt
#endif
