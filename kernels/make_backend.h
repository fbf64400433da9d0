// Backends by name, as configurations give them.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace lorc {

// `name`: "cpu" or "cuda". `num_threads`: of the program; 0: one per available core. UNIMPLEMENTED
// where the program was built without that backend; other errors say what the machine lacks.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(std::string_view name, int num_threads);

}  // namespace lorc
