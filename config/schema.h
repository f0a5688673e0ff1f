// The table of keys, private to the room.
#ifndef FEDWATT_CONFIG_SCHEMA_H_
#define FEDWATT_CONFIG_SCHEMA_H_

#include <functional>
#include <string>
#include <vector>

#include <toml++/toml.h>

#include "fedwatt/config/settings.h"

namespace fedwatt::internal {

struct Key {
  std::string name;
  std::string type;  // for people, with the range: "integer >= 1"
  std::string help;
  bool text = false;  // a flag's or variable's value is this string itself, not TOML
  // Stores the node's value. Returns "" or what is expected instead.
  std::function<std::string(Settings&, const toml::node&)> set;
  std::function<std::string(const Settings&)> show;
  // Asks the room that knows the names, after `set`; may be empty.
  std::function<absl::Status(const Settings&)> check;
};

// In documentation order. `model.options` is a table: its members are not keys of their own.
const std::vector<Key>& Schema();
const Key* FindKey(std::string_view name);

}  // namespace fedwatt::internal

#endif  // FEDWATT_CONFIG_SCHEMA_H_
