// Weights that a backend has prepared for its products. Opaque: only the backend that made one can
// use it.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/base/dtype.h"

namespace lorc {

// Where a matrix's values come from, [rows, columns] row-major, read in pieces so that no second
// full copy is needed. `read_rows(begin, end, out)` writes rows [begin, end) as floats.
struct MatrixSource {
  int64_t rows = 0;     // N, output features
  int64_t columns = 0;  // K, input features
  std::function<void(int64_t begin, int64_t end, float* out)> read_rows;
};

// W [rows, columns] of y = x W^T.
class Matrix {
 public:
  virtual ~Matrix() = default;

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  // kF32, kBf16, or kInt8: W[n, k] = scale[n] * q[n, k], q in [-127, 127].
  DType type() const { return type_; }
  virtual int64_t size_bytes() const = 0;

 protected:
  Matrix(int64_t rows, int64_t columns, DType type) : rows_(rows), columns_(columns), type_(type) {}

 private:
  int64_t rows_;
  int64_t columns_;
  DType type_;
};

// The bases of one latent tensor (K or V of one layer): `groups` pairs of an encoder [rank,
// group_width] and a decoder [group_width, rank]; group i covers KV heads [i * s, (i + 1) * s),
// group_width = s * d.
//   latent = encoder x        rebuilt = decoder latent
class Basis {
 public:
  virtual ~Basis() = default;
  virtual int64_t size_bytes() const = 0;
};

struct BasisSource {
  int32_t groups = 0;
  int32_t group_width = 0;         // s * d
  int32_t head_dim = 0;            // d
  int32_t rank = 0;                // per group
  const float* encoder = nullptr;  // [groups, rank, group_width]
  const float* decoder = nullptr;  // [groups, group_width, rank]
  // Whether attention to latents as they are will use the decoder: not in layers whose keys are
  // rebuilt.
  bool absorbed = true;
};

}  // namespace lorc
