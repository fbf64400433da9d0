// "HOST:PORT" and "[IPV6]:PORT".
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lorc {

struct HostPort {
  std::string host;  // without brackets
  int32_t port = 0;  // 0..65535

  std::string ToString() const;
};

// INVALID_ARGUMENT says what was expected and what came.
absl::StatusOr<HostPort> ParseHostPort(const std::string& text);

}  // namespace lorc
