// Stored types the plain way: one value at a time, in double precision. For tests only.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/weights/stored_type.h"

namespace lorc::test {

// Bytes as a checkpoint file holds them. `values` are whole blocks. Rounds to nearest.
std::string Quantize(StoredType type, std::span<const float> values);

// The values that such bytes stand for, by the formulas in stored_type.h.
std::vector<double> NaiveDequantize(StoredType type, std::string_view bytes);

}  // namespace lorc::test
