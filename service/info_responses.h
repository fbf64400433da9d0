// Answers of GetModelInfo and GetServerStats.
#pragma once

#include "lorc/v1/generation.pb.h"
#include "service/serving.h"

namespace lorc {

v1::GetModelInfoResponse ModelInfo(const Serving& serving);

// Also while the model loads.
v1::GetServerStatsResponse ServerStats(const ServiceState& state);

// Whether new requests are served.
bool IsReady(const ServiceState& state);

}  // namespace lorc
