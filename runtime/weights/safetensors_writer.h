// Writer of one safetensors file.
#pragma once

#include <span>
#include <string>

#include "absl/status/status.h"
#include "runtime/weights/safetensors.h"

namespace lorc {

// Writes a temporary file in `path`'s folder, forces it to the disk, reads it back and compares,
// and only then renames it to `path` (replacing a file there). On error nothing is left behind and
// a file that was at `path` is untouched. A full disk or quota is RESOURCE_EXHAUSTED.
//
// Tensors come in the given order, but with wider types first, so that each is aligned to its
// element size. Names are unique, not "__metadata__"; `data` has the bytes that type and shape
// need; names and metadata are UTF-8: else INVALID_ARGUMENT. Equal arguments give equal files.
absl::Status WriteSafetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                              const SafetensorsMetadata& metadata);

}  // namespace lorc
