// How our own files say what they hold: a JSON object as text in a safetensors file's metadata,
// with the members "format" and "version".
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/status.h"
#include "runtime/weights/safetensors.h"

namespace lorc {

struct JsonHeaderKind {
  const char* key;     // of the metadata's entry
  const char* format;  // what the member says
  int32_t oldest_version = 1;
  int32_t newest_version = 1;
  // For messages: "not (a KV plan): ...", "version 3 of (the plan format)", and where to get one.
  const char* file;
  const char* content;
  const char* advice = "";
};

// INVALID_ARGUMENT where the entry is missing, no JSON object or of another format, UNIMPLEMENTED
// where it is of another version; both name the file. Other members are the caller's to check.
absl::Status ReadJsonHeader(const Safetensors& file, const JsonHeaderKind& kind,
                            nlohmann::json* header);

}  // namespace lorc
