// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <string>

namespace lorc {

struct AvailableMemory {
  int64_t bytes = 0;    // 0: not to be found out
  std::string source;   // what limits it: "MemAvailable", the control group's path or the device
  bool device = false;  // of a device of its own, not the machine's
};

// The least of the machine's MemAvailable and what the limits of this process's control groups
// (version 1 or 2) leave; page cache that can be dropped counts as available. `root` stands before
// every path that is read: empty but in tests.
AvailableMemory FindAvailableMemory(const std::string& root = "");

}  // namespace lorc
