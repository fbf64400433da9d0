// What Linux says about this process.
#pragma once

#include <cstdint>

namespace lorc {

int64_t ResidentBytes();
double CpuSeconds();               // user and system, all threads
double ProcessStartTimeSeconds();  // since 1970

}  // namespace lorc
