#include "service/host_port.h"

#include "absl/strings/str_cat.h"
#include "service/config_values.h"

namespace lorc {

std::string HostPort::ToString() const {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return is_ipv6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<HostPort> ParseHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon != std::string::npos && colon > 0) {
    HostPort parsed;
    parsed.host = text.substr(0, colon);
    if (parsed.host.size() > 2 && parsed.host.front() == '[' && parsed.host.back() == ']') {
      parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
    } else if (parsed.host.find(':') != std::string::npos) {
      parsed.host.clear();  // an IPv6 address without brackets
    }
    const auto port = ParseInteger(text.substr(colon + 1));
    if (!parsed.host.empty() && port.ok() && *port >= 0 && *port <= 65535) {
      parsed.port = static_cast<int32_t>(*port);
      return parsed;
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "expected HOST:PORT or [IPV6]:PORT with a port of 0..65535, got \"", text, "\""));
}

}  // namespace lorc
