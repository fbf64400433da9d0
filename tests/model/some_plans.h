// Plans of the kinds that the model tests run, fitted to a few hundred tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/checkpoint.h"

namespace lorc::test {

// Token ids without meaning, the same for the same `state`.
std::vector<TokenId> SomeTokens(int32_t count, uint32_t state);

// `kind`: "full"; "direct", "rebuilt" (the defaults with keys of that layout); "mixed" (direct,
// 3,600 bytes per token).
absl::StatusOr<KvPlan> SomePlan(const Checkpoint& checkpoint, const std::string& kind);

}  // namespace lorc::test
