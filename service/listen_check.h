// Whether an address can be listened on, before a library tries and says less.
#pragma once

#include "absl/status/status.h"
#include "service/host_port.h"

namespace lorc {

// Binds and lets go. UNAVAILABLE with the system's reason (in use, no permission, not an address
// of this machine); NOT_FOUND where the host has no address.
absl::Status CheckCanListen(const HostPort& address);

}  // namespace lorc
