// Matrix products in float32 by OpenBLAS, spread over a thread pool in tiles of a fixed size, so
// that results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace lorc {

// A row-major matrix: rows lie `stride` floats apart.
struct MatrixView {
  const float* data = nullptr;
  int64_t stride = 0;
};

enum class Transposed { kNo, kYes };
enum class Output { kStore, kAdd };

// On the calling thread: y [m, n] = or += a b, a [m, k] or its transpose, b [k, n] or its transpose
// (kYes: `a` lies as [k, m], `b` as [n, k]).
void MultiplyHere(Transposed transpose_a, Transposed transpose_b, int64_t m, int64_t n, int64_t k,
                  MatrixView a, MatrixView b, Output output, float* y, int64_t y_stride);

// While it lives OpenBLAS computes on the threads that call it, in the whole process.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas();
  ~SingleThreadedBlas();
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  const int num_threads_;
};

// Needs a SingleThreadedBlas. y [m, n] = or += x w, x [m, k], w [k, n] or its transpose.
void Multiply(ThreadPool& pool, Transposed transpose_w, int64_t m, int64_t n, int64_t k,
              MatrixView x, MatrixView w, Output output, float* y, int64_t y_stride);

// Adds sum over rows of x x^T to the upper triangle (column >= row) of sum [n, n]: x [rows, n];
// pieces of at most 256 rows are summed in float32, those in double precision. On the calling
// thread.
void AddOuterProducts(MatrixView x, int64_t rows, int64_t n, double* sum);

}  // namespace lorc
