// The fields of ServerConfig by name: what flags, the YAML file and the log have in common.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "service/server_config.h"

namespace lorc {

struct ConfigField {
  std::string name;  // "max_running", the YAML key; the flag is "--max-running"
  std::string type;  // "N", "BYTES", "PATH", ...; empty: a switch
  std::string help;
  // INVALID_ARGUMENT with value and range; the caller adds the name.
  std::function<absl::Status(const std::string& text, ServerConfig& config)> set;
  std::function<std::string(const ServerConfig& config)> get;

  std::string flag() const;
};

// In the order of the struct.
const std::vector<ConfigField>& ConfigFields();

// nullptr: unknown.
const ConfigField* FindConfigField(const std::string& name);

// The known name with the fewest edits to this one.
std::string NearestConfigField(const std::string& name);

}  // namespace lorc
