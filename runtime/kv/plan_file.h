// Reading and writing KV plans: one safetensors file with a JSON header (docs/formats/kv_plan.md).
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/kv/kv_plan.h"
#include "runtime/weights/safetensors.h"

namespace lorc {

// The file is hostile until proven otherwise: errors name the file, what was expected and what
// came. Whether the plan fits a model is for KvPlan::Validate and CheckBase.
absl::StatusOr<KvPlan> ReadPlan(const std::string& path);
absl::StatusOr<KvPlan> ParsePlan(const Safetensors& file);

// Whole or not at all; read back before success is reported.
absl::Status WritePlan(const KvPlan& plan, const std::string& path);

// The header alone, as written into the file, for `lorc plan show --json`.
std::string PlanHeaderJson(const KvPlan& plan);

}  // namespace lorc
