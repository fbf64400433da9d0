#include "service/available_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

namespace lorc {
namespace {

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;  // no such file, or "max"
}

// The number after `key` in a file of "key number" lines; 0 where there is none.
int64_t ReadKey(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    if (words >> word >> number && word == key) return number;
  }
  return 0;
}

void Limit(int64_t bytes, const std::string& source, AvailableMemory* available) {
  if (available->bytes != 0 && available->bytes <= bytes) return;
  *available = {std::max<int64_t>(1, bytes), source};
}

struct Names {
  const char* limit;
  const char* usage;
  const char* inactive;
};
constexpr Names kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                             "total_inactive_file"};
constexpr Names kVersion2 = {"memory.max", "memory.current", "inactive_file"};

// The group and all above it: each may have a limit of its own.
void LimitByGroups(const std::string& mount, std::string group, const Names& names,
                   AvailableMemory* available) {
  for (;;) {
    const std::string folder = mount + group + "/";
    const auto limit = ReadNumber(folder + names.limit);
    const auto usage = ReadNumber(folder + names.usage);
    constexpr int64_t kNoLimit = int64_t{1} << 60;  // version 1 writes a huge number
    if (limit && usage && *limit < kNoLimit) {
      const int64_t droppable = ReadKey(folder + "memory.stat", names.inactive);
      Limit(*limit - std::max<int64_t>(0, *usage - droppable), folder, available);
    }
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

}  // namespace

AvailableMemory FindAvailableMemory(const std::string& root) {
  AvailableMemory available;
  const int64_t kib = ReadKey(root + "/proc/meminfo", "MemAvailable:");
  if (kib > 0) Limit(kib * 1024, "MemAvailable", &available);

  // Lines "hierarchy:controllers:path"; hierarchy 0 is version 2.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    if (controllers.empty()) {
      LimitByGroups(root + "/sys/fs/cgroup", path, kVersion2, &available);
    } else if (controllers == "memory") {
      LimitByGroups(root + "/sys/fs/cgroup/memory", path, kVersion1, &available);
    }
  }
  return available;
}

}  // namespace lorc
