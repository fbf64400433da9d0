// The JSON header of a safetensors file. Internal to the reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/weights/safetensors.h"

namespace lorc {

struct SafetensorsHeader {
  struct Entry {
    std::string name;
    SafetensorsType type = SafetensorsType::kF32;
    std::vector<int64_t> shape;
    int64_t begin = 0;  // offsets into the data section; end - begin is what type and shape need
    int64_t end = 0;
  };
  SafetensorsMetadata metadata;
  std::vector<Entry> entries;  // in the header's order; names are unique
};

// Errors say what is wrong without naming the file.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json);

}  // namespace lorc
