// A plan as a table for people.
#pragma once

#include <string>

#include "runtime/kv/kv_plan.h"

namespace lorc {

// A line per layer: layout, ranks, kept shares, condition numbers, effective ranks, bytes per
// token; then totals.
std::string PlanTable(const KvPlan& plan);

}  // namespace lorc
