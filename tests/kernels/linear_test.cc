#include "kernels/cpu/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cpu/thread_pool.h"
#include "kernels/reference/reference_ops.h"
#include "tests/kernels/backend_fixture.h"

namespace lorc {
namespace {

struct Shape {
  int64_t outputs, columns;
};

constexpr Shape kShapes[] = {{1, 8},     {64, 64},  {65, 33}, {200, 100},
                             {960, 576}, {96, 576}, {144, 64}};

// Of types of the weights.
class LinearTest : public BackendTest {
 protected:
  DType x_type() const { return type() == DType::kF32 ? DType::kF32 : DType::kBf16; }

  std::unique_ptr<Matrix> Pack(const std::vector<float>& w, Shape shape) {
    auto matrix = backend().MakeMatrix(SourceOf(w, shape.outputs, shape.columns), type());
    EXPECT_TRUE(matrix.ok()) << matrix.status();
    return *std::move(matrix);
  }

  // x holds num_rows rows. The result has y_type's values as floats, [num_rows, width].
  std::vector<float> Run(const Matrix& w, int64_t width, const std::vector<float>& x,
                         int64_t num_rows, LinearArgs::Output output = LinearArgs::Output::kStore,
                         float start = NAN) {
    const int64_t padded = PaddedRows(num_rows);
    std::vector<float> padded_x(padded * w.columns(), 7.0f);
    std::copy(x.begin(), x.begin() + num_rows * w.columns(), padded_x.begin());
    DeviceValues device_x(backend(), x_type(), padded_x);
    LinearArgs args;
    args.weight = &w;
    args.num_rows = num_rows;
    args.x = device_x.data();
    args.x_type = x_type();
    args.output = output;
    args.y_type = output == LinearArgs::Output::kGatedSilu ? x_type() : DType::kF32;
    args.y_stride = width;
    // One element more than needed: it must stay as it is.
    DeviceValues device_y(backend(), args.y_type, std::vector<float>(num_rows * width + 1, start));
    args.y = device_y.data();
    backend().Linear(args);
    EXPECT_TRUE(backend().status().ok()) << backend().status();
    auto y = device_y.Read();
    EXPECT_TRUE(std::isnan(start) ? std::isnan(y.back()) : y.back() == start);
    y.pop_back();
    return y;
  }

  // What the matrix holds after rounding.
  std::vector<float> Unpack(const Matrix& w) {
    std::vector<int32_t> rows(w.rows());
    std::iota(rows.begin(), rows.end(), 0);
    auto values = DeviceValues::Poisoned(backend(), DType::kF32, w.rows() * w.columns());
    backend().Embed({&w, w.rows(), rows.data(), values.floats()});
    return values.Read();
  }

  // Rounding of sums of K products in f32, and for int8 of x to at least 2^-12 of its row's
  // largest.
  std::vector<double> Bound(const std::vector<float>& x, const std::vector<float>& w,
                            int64_t num_rows, Shape shape) {
    std::vector<double> bound =
        reference::LinearMagnitude(x, w, num_rows, shape.columns, shape.outputs);
    // Tensor cores cut sums off where others round them.
    const double unit = on_cpu() ? 0x1p-24 : 0x1p-23;
    for (double& b : bound) b = b * unit * static_cast<double>(shape.columns + 2) + 1e-30;
    if (type() == DType::kInt8) {
      const int64_t padded = (shape.columns + 31) / 32 * 32;
      const double largest_code = std::min<double>(32767, 0x7fffffff / (127 * padded));
      for (int64_t t = 0; t < num_rows; ++t) {
        double largest = 0;
        for (int64_t k = 0; k < shape.columns; ++k) {
          largest = std::max<double>(largest, std::abs(x[t * shape.columns + k]));
        }
        for (int64_t n = 0; n < shape.outputs; ++n) {
          double magnitude = 0;
          for (int64_t k = 0; k < shape.columns; ++k)
            magnitude += std::abs(w[n * shape.columns + k]);
          bound[t * shape.outputs + n] += 0.5001 * largest / largest_code * magnitude;
        }
      }
    }
    return bound;
  }
};

TEST_P(LinearTest, MatchesTheReference) {
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const Shape shape : kShapes) {
      const auto w = RandomNormal(shape.outputs * shape.columns, 1, 0.1f);
      const auto packed = Pack(w, shape);
      const auto held = Unpack(*packed);
      for (const int64_t rows : {1, 2, 5, 33, 130}) {
        const auto x = RoundTo(x_type(), RandomNormal(rows * shape.columns, rows));
        const std::string what = target + " " + std::to_string(shape.outputs) + "x" +
                                 std::to_string(shape.columns) + " rows " + std::to_string(rows);
        const auto expected = reference::Linear(x, held, rows, shape.columns, shape.outputs);
        ExpectWithin(Run(*packed, shape.outputs, x, rows), expected, Bound(x, held, rows, shape),
                     what);
      }
    }
  });
}

TEST_P(LinearTest, AccumulatesIntoTheOutput) {
  const Shape shape{130, 96};
  const auto w = RandomNormal(shape.outputs * shape.columns, 3, 0.1f);
  const auto packed = Pack(w, shape);
  const auto held = Unpack(*packed);
  const auto x = RoundTo(x_type(), RandomNormal(9 * shape.columns, 4));
  auto expected = reference::Linear(x, held, 9, shape.columns, shape.outputs);
  auto bound = Bound(x, held, 9, shape);
  for (double& value : expected) value += 2.5;
  for (double& value : bound) value += 2.5 * 0x1p-22;
  ExpectWithin(Run(*packed, shape.outputs, x, 9, LinearArgs::Output::kAdd, 2.5f), expected, bound,
               "accumulate");
}

TEST_P(LinearTest, GatedPairMatchesTheReference) {
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const Shape shape : {Shape{8, 16}, Shape{64, 64}, Shape{200, 40}, Shape{1536, 32}}) {
      auto gate = RandomNormal(shape.outputs * shape.columns, 11);
      const auto up = RandomNormal(shape.outputs * shape.columns, 12);
      for (int64_t k = 0; k < shape.columns; ++k)
        gate[k] *= 60.0f;  // far into the exponential's range
      const auto packed =
          backend().MakeGatedMatrix(SourceOf(gate, shape.outputs, shape.columns),
                                    SourceOf(up, shape.outputs, shape.columns), type());
      ASSERT_TRUE(packed.ok()) << packed.status();
      const auto x = RoundTo(x_type(), RandomNormal(35 * shape.columns, 13));
      // What packing rounds is covered by the tests above: here the parts are packed on their own.
      const auto gate_held = Unpack(*Pack(gate, shape));
      const auto up_held = Unpack(*Pack(up, shape));
      const auto g = reference::Linear(x, gate_held, 35, shape.columns, shape.outputs);
      const auto u = reference::Linear(x, up_held, 35, shape.columns, shape.outputs);
      const auto g_bound = Bound(x, gate_held, 35, shape);
      const auto u_bound = Bound(x, up_held, 35, shape);
      std::vector<double> expected(g.size()), bound(g.size());
      for (size_t i = 0; i < g.size(); ++i) {
        const double silu = g[i] / (1 + std::exp(-g[i]));
        expected[i] = silu * u[i];
        // |silu'| <= 1.1.
        bound[i] = 1.1 * g_bound[i] * (std::abs(u[i]) + u_bound[i]) + std::abs(silu) * u_bound[i] +
                   std::abs(expected[i]) * (x_type() == DType::kBf16 ? 0x1p-8 : 0x1p-20) + 1e-30;
      }
      ExpectWithin(Run(**packed, shape.outputs, x, 35, LinearArgs::Output::kGatedSilu), expected,
                   bound, target);
    }
  });
}

TEST_P(LinearTest, ARowIsTheSameInAnyBatchBitForBit) {
  // On a GPU: in any batch of its size (kernels/cuda/cuda_linear.h).
  using Batches = std::vector<int64_t>;  // the first is the largest
  const std::vector<Batches> sizes =
      on_cpu() ? std::vector<Batches>{{300, 1,  2,  3,  4,  7,  8,  15,  16,  17,
                                       31,  33, 47, 48, 49, 64, 65, 127, 129, 257}}
               : std::vector<Batches>{{16, 1, 2, 7, 15}, {64, 33, 50, 63}, {300, 257, 258, 299}};
  ForEachTarget(backend(), [&](const std::string& target) {
    for (const Shape shape : kShapes) {
      const auto packed = Pack(RandomNormal(shape.outputs * shape.columns, 5, 0.1f), shape);
      for (const Batches& batches : sizes) {
        const auto x = RoundTo(x_type(), RandomNormal(batches[0] * shape.columns, 6));
        const auto all = Run(*packed, shape.outputs, x, batches[0]);
        for (const int64_t rows : batches) {
          // The last `rows` rows, so that each row also changes its place.
          const std::vector<float> part(x.end() - rows * shape.columns, x.end());
          const auto y = Run(*packed, shape.outputs, part, rows);
          ASSERT_TRUE(std::equal(y.begin(), y.end(), all.end() - rows * shape.outputs))
              << target << " " << shape.outputs << "x" << shape.columns << " rows " << rows;
        }
      }
    }
  });
}

TEST_P(LinearTest, PortableAndBlockedProductsAgree) {
  // int8 and other backends have one implementation.
  if (!on_cpu() || type() == DType::kInt8) return;
  ThreadPool pool(2);
  for (const Shape shape : kShapes) {
    const auto w = RandomNormal(shape.outputs * shape.columns, 7, 0.1f);
    const auto packed =
        CpuMatrix::Pack(SourceOf(w, shape.outputs, shape.columns), type(), nullptr, pool);
    ASSERT_TRUE(packed.ok()) << packed.status();
    const CpuMatrix& matrix = **packed;
    const auto held = Unpack(matrix);
    const auto x = RoundTo(x_type(), RandomNormal(40 * shape.columns, 8));
    const auto xb = ToBf16(x);
    std::vector<float> tile(40 * matrix.padded_rows(), NAN);
    LinearTask task;
    task.weight = &matrix;
    task.num_blocks = matrix.num_blocks();
    task.num_rows = 40;
    task.x = x_type() == DType::kF32 ? static_cast<const void*>(x.data()) : xb.data();
    task.tile = tile.data();
    SimdLinearTask(task);
    std::vector<float> y;
    for (int64_t t = 0; t < 40; ++t) {
      const auto row = tile.begin() + t * matrix.padded_rows();
      y.insert(y.end(), row, row + shape.outputs);
      for (auto pad = row + shape.outputs; pad != row + matrix.padded_rows(); ++pad) {
        ASSERT_EQ(*pad, 0.0f);
      }
    }
    ExpectWithin(y, reference::Linear(x, held, 40, shape.columns, shape.outputs),
                 Bound(x, held, 40, shape), "portable");
  }
}

TEST_P(LinearTest, ValuesThatAreNotFiniteStayVisible) {
  const Shape shape{70, 40};
  const auto packed = Pack(RandomNormal(shape.outputs * shape.columns, 9), shape);
  for (const float bad : {NAN, HUGE_VALF}) {
    auto x = RandomNormal(2 * shape.columns, 10);
    x[3] = bad;
    const auto y = Run(*packed, shape.outputs, x, 2);
    EXPECT_FALSE(std::isfinite(y[0]));
    for (int64_t n = shape.outputs; n < 2 * shape.outputs; ++n) EXPECT_TRUE(std::isfinite(y[n]));
  }
  const auto zeros = Run(*packed, shape.outputs, std::vector<float>(shape.columns, 0.0f), 1);
  for (const float value : zeros) EXPECT_EQ(value, 0.0f);
}

TEST_P(LinearTest, RowsOfTheOutputMayLieApart) {
  const Shape shape{96, 64};
  const int64_t stride = shape.outputs + 8;
  const auto packed = Pack(RandomNormal(shape.outputs * shape.columns, 14, 0.1f), shape);
  const auto held = Unpack(*packed);
  const auto x = RoundTo(x_type(), RandomNormal(5 * shape.columns, 15));
  const auto apart = Run(*packed, stride, x, 5);
  std::vector<float> dense;
  for (int64_t t = 0; t < 5; ++t) {
    const auto row = apart.begin() + t * stride;
    dense.insert(dense.end(), row, row + shape.outputs);
    for (auto gap = row + shape.outputs; gap != row + stride; ++gap) EXPECT_TRUE(std::isnan(*gap));
  }
  ExpectWithin(dense, reference::Linear(x, held, 5, shape.columns, shape.outputs),
               Bound(x, held, 5, shape), "rows apart");
}

INSTANTIATE_TEST_SUITE_P(Backends, LinearTest,
                         testing::Values(BackendCase{"cpu", DType::kF32},
                                         BackendCase{"cpu", DType::kBf16},
                                         BackendCase{"cpu", DType::kInt8},
                                         BackendCase{"cuda", DType::kBf16}),
                         NameOf);

}  // namespace
}  // namespace lorc
