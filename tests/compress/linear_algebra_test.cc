#include "runtime/compress/linear_algebra.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace lorc {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

// LAPACK's backward errors are a small multiple of n epsilon norm(A); here n <= 40, norm(A) < 100.
constexpr double kTolerance = 1e-12;

std::vector<double> Random(int64_t count, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(count);
  for (double& value : values) value = normal(generator);
  return values;
}

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void ExpectOrthonormalRows(const std::vector<double>& rows, int64_t width) {
  const int64_t count = std::ssize(rows) / width;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t j = 0; j < count; ++j) {
      EXPECT_NEAR(Dot(&rows[i * width], &rows[j * width], width), i == j, kTolerance)
          << i << ", " << j;
    }
  }
}

// x^T x for x [rows, n], both triangles.
std::vector<double> Gram(const std::vector<double>& x, int64_t n) {
  std::vector<double> gram(n * n, 0.0);
  for (int64_t t = 0; t < std::ssize(x) / n; ++t)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) gram[i * n + j] += x[t * n + i] * x[t * n + j];
  return gram;
}

TEST(SymmetricEigenTest, KnownMatrices) {
  const double half = std::sqrt(0.5);
  const auto eigen = SymmetricEigen({2, 1, 1, 2}, 2);
  ASSERT_TRUE(eigen.ok()) << eigen.status();
  EXPECT_THAT(eigen->values, Pointwise(DoubleNear(kTolerance), {3.0, 1.0}));
  EXPECT_NEAR(std::abs(eigen->vectors[0] + eigen->vectors[1]), 2 * half, kTolerance);
  EXPECT_NEAR(std::abs(eigen->vectors[2] - eigen->vectors[3]), 2 * half, kTolerance);

  // Largest first, negative ones last.
  const auto diagonal = SymmetricEigen({-5, 0, 0, 0, 7, 0, 0, 0, 2}, 3);
  ASSERT_TRUE(diagonal.ok()) << diagonal.status();
  EXPECT_THAT(diagonal->values, Pointwise(DoubleNear(kTolerance), {7.0, 2.0, -5.0}));
  EXPECT_NEAR(std::abs(diagonal->vectors[1]), 1, kTolerance);

  const auto one = SymmetricEigen({-4}, 1);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->values, ElementsAre(-4));
  EXPECT_EQ(std::abs(one->vectors[0]), 1);
}

TEST(SymmetricEigenTest, RandomMatrixIsRebuilt) {
  constexpr int64_t kN = 40;
  const std::vector<double> gram = Gram(Random(60 * kN, 1), kN);
  const auto eigen = SymmetricEigen(gram, kN);
  ASSERT_TRUE(eigen.ok()) << eigen.status();
  ExpectOrthonormalRows(eigen->vectors, kN);
  EXPECT_TRUE(std::is_sorted(eigen->values.rbegin(), eigen->values.rend()));
  for (int64_t i = 0; i < kN; ++i) {
    for (int64_t j = 0; j < kN; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < kN; ++k)
        sum += eigen->values[k] * eigen->vectors[k * kN + i] * eigen->vectors[k * kN + j];
      EXPECT_NEAR(sum, gram[i * kN + j], 100 * kTolerance);
    }
  }
}

TEST(SymmetricEigenTest, ReadsTheUpperTriangleOnly) {
  const auto whole = SymmetricEigen({2, 1, 1, 2}, 2);
  const auto upper = SymmetricEigen({2, 1, NAN, 2}, 2);
  ASSERT_TRUE(upper.ok()) << upper.status();
  EXPECT_EQ(upper->values, whole->values);
  EXPECT_EQ(upper->vectors, whole->vectors);
}

TEST(SymmetricEigenTest, ZeroMatrixHasABasisAllTheSame) {
  const auto eigen = SymmetricEigen(std::vector<double>(64, 0.0), 8);
  ASSERT_TRUE(eigen.ok()) << eigen.status();
  EXPECT_EQ(eigen->values, std::vector<double>(8, 0.0));
  ExpectOrthonormalRows(eigen->vectors, 8);
}

TEST(SymmetricEigenTest, RefusesWhatIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {double{NAN}, kInfinity, -kInfinity}) {
    const auto eigen = SymmetricEigen({1, 0, 0, 0, 1, bad, 0, bad, 1}, 3);
    EXPECT_EQ(eigen.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(eigen.status().message()), HasSubstr("row 1, column 2 of 3 x 3"));
  }
}

TEST(SingularValuesTest, KnownMatrices) {
  const auto wide = SingularValues({3, 0, 0, 0, -4, 0}, 2, 3);
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_THAT(wide->values, Pointwise(DoubleNear(kTolerance), {4.0, 3.0}));
  ASSERT_EQ(wide->left.size(), 4);  // 2 vectors of 2
  EXPECT_NEAR(std::abs(wide->left[1]), 1, kTolerance);
  EXPECT_NEAR(std::abs(wide->left[2]), 1, kTolerance);

  const auto tall = SingularValues({3, 0, 0, 0, 0, -4}, 3, 2);
  ASSERT_TRUE(tall.ok()) << tall.status();
  EXPECT_THAT(tall->values, Pointwise(DoubleNear(kTolerance), {4.0, 3.0}));
  ASSERT_EQ(tall->left.size(), 6);  // 2 vectors of 3
  EXPECT_NEAR(std::abs(tall->left[2]), 1, kTolerance);
  EXPECT_NEAR(std::abs(tall->left[3]), 1, kTolerance);

  const auto one = SingularValues({-4}, 1, 1);
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->values, ElementsAre(4));
  EXPECT_EQ(std::abs(one->left[0]), 1);
}

// Rows of U^T A are orthogonal and as long as the singular values.
TEST(SingularValuesTest, RandomMatrixOfEitherShape) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{24, 40}, {40, 24}, {24, 24}}) {
    const std::vector<double> a = Random(rows * columns, 2);
    const auto svd = SingularValues(a, rows, columns);
    ASSERT_TRUE(svd.ok()) << svd.status();
    ASSERT_EQ(svd->values.size(), 24);
    ExpectOrthonormalRows(svd->left, rows);
    EXPECT_TRUE(std::is_sorted(svd->values.rbegin(), svd->values.rend()));
    std::vector<double> product(24 * columns, 0.0);
    for (int64_t i = 0; i < 24; ++i)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
          product[i * columns + c] += svd->left[i * rows + r] * a[r * columns + c];
    for (int64_t i = 0; i < 24; ++i) {
      for (int64_t j = 0; j < 24; ++j) {
        const double wanted = i == j ? svd->values[i] * svd->values[i] : 0;
        EXPECT_NEAR(Dot(&product[i * columns], &product[j * columns], columns), wanted,
                    100 * kTolerance);
      }
    }
  }
}

TEST(SingularValuesTest, ZeroAndDeficientMatrices) {
  const auto zero = SingularValues(std::vector<double>(4 * 6, 0.0), 4, 6);
  ASSERT_TRUE(zero.ok()) << zero.status();
  EXPECT_EQ(zero->values, std::vector<double>(4, 0.0));
  ExpectOrthonormalRows(zero->left, 4);

  const auto rank_one = SingularValues({1, 2, 2, 2, 4, 4}, 2, 3);
  ASSERT_TRUE(rank_one.ok()) << rank_one.status();
  EXPECT_THAT(rank_one->values, Pointwise(DoubleNear(kTolerance), {std::sqrt(45.0), 0.0}));
  ExpectOrthonormalRows(rank_one->left, 2);
}

TEST(SingularValuesTest, RefusesWhatIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {double{NAN}, kInfinity, -kInfinity}) {
    const auto svd = SingularValues({1, 2, 3, bad, 5, 6}, 2, 3);
    EXPECT_EQ(svd.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(svd.status().message()), HasSubstr("row 1, column 0 of 2 x 3"));
  }
}

TEST(DecompositionsTest, AreDeterministic) {
  const std::vector<double> a = Random(24 * 40, 3);
  const auto first = SingularValues(a, 24, 40);
  const auto second = SingularValues(a, 24, 40);
  EXPECT_EQ(first->values, second->values);
  EXPECT_EQ(first->left, second->left);
  const auto gram = Gram(a, 40);
  EXPECT_EQ(SymmetricEigen(gram, 40)->vectors, SymmetricEigen(gram, 40)->vectors);
}

}  // namespace
}  // namespace lorc
