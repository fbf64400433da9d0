// Element types that tensors have in checkpoint files, and their conversion to float.
//
// Quantised types come in blocks of 32 consecutive elements of a row (ggml's layouts):
//   Q8_0  f16 d, 32 x int8 q                x = d * q
//   Q4_0  f16 d, 16 bytes                   x = d * (q - 8)
//   Q4_1  f16 d, f16 m, 16 bytes            x = d * q + m
// Byte j of a 4-bit block holds element j in its low half and element j + 16 in its high half.
// d * q needs at most 19 bits, so every conversion is exact but for the one rounding of "+ m".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace lorc {

enum class StoredType : uint8_t { kF32, kF16, kBf16, kQ8_0, kQ4_0, kQ4_1 };

int64_t BlockElements(StoredType type);
int64_t BlockBytes(StoredType type);
const char* Name(StoredType type);  // "F32", "Q4_1", ...

// Bytes of `elements` elements; nothing where they are no whole number of blocks or overflow int64.
std::optional<int64_t> StoredBytes(StoredType type, int64_t elements);

// `elements` is a multiple of BlockElements(type). `source` needs no alignment.
void Dequantize(StoredType type, const std::byte* source, int64_t elements, float* out);

}  // namespace lorc
