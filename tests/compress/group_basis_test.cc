#include "runtime/compress/group_basis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "runtime/compress/linear_algebra.h"

namespace lorc {
namespace {

constexpr int64_t kWidth = 12;

std::vector<double> Rows(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> rows(count * kWidth);
  for (int64_t t = 0; t < count; ++t) {
    // Directions of very different size, none along a channel.
    for (int64_t i = 0; i < kWidth; ++i) {
      const double size = std::exp(-0.4 * static_cast<double>(i)) * normal(random);
      for (int64_t j = 0; j < kWidth; ++j) {
        rows[t * kWidth + j] += size * std::cos(1.0 + static_cast<double>(i * j + i));
      }
    }
  }
  return rows;
}

std::vector<double> Gram(const std::vector<double>& rows) {
  std::vector<double> gram(kWidth * kWidth, 0.0);
  AddOuterProducts(rows.data(), std::ssize(rows) / kWidth, kWidth, gram.data());
  return gram;
}

// z^ = sum over j < rank of (encoder_j . z) decoder_j, for every row.
std::vector<double> Approximate(const GroupBasis& basis, const std::vector<double>& rows,
                                int64_t rank) {
  std::vector<double> out(rows.size(), 0.0);
  for (size_t t = 0; t < rows.size(); t += kWidth) {
    for (int64_t j = 0; j < rank; ++j) {
      double latent = 0;
      for (int64_t i = 0; i < kWidth; ++i) latent += basis.encoder[j * kWidth + i] * rows[t + i];
      for (int64_t i = 0; i < kWidth; ++i) out[t + i] += latent * basis.decoder[j * kWidth + i];
    }
  }
  return out;
}

double TailOf(const std::vector<double>& values, int64_t rank) {
  double tail = 0;
  for (size_t i = rank; i < values.size(); ++i) tail += values[i];
  return tail;
}

// || X Y^T ||^2 in Frobenius norm.
double ProductEnergy(const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0;
  for (size_t a = 0; a < x.size(); a += kWidth) {
    for (size_t b = 0; b < y.size(); b += kWidth) {
      double product = 0;
      for (int64_t i = 0; i < kWidth; ++i) product += x[a + i] * y[b + i];
      sum += product * product;
    }
  }
  return sum;
}

std::vector<double> Difference(std::vector<double> x, const std::vector<double>& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] -= y[i];
  return x;
}

TEST(WeightedBasisTest, WithoutMetricLosesTheDiscardedSpectrum) {
  const auto keys = Rows(80, 1);
  const auto basis = WeightedBasis(Gram(keys), {}, kWidth);
  ASSERT_TRUE(basis.ok()) << basis.status();
  for (int64_t rank = 0; rank <= kWidth; ++rank) {
    double error = 0;
    for (const double x : Difference(keys, Approximate(*basis, keys, rank))) error += x * x;
    EXPECT_NEAR(error, TailOf(basis->gains, rank), 1e-9 * basis->gains[0]) << rank;
  }
}

// KQ-SVD: no other approximation of K Q^T of that rank is nearer (Eckart and Young), by another way
// to the singular values: those of the product itself.
TEST(WeightedBasisTest, ReachesTheEckartYoungBoundOfScores) {
  const auto keys = Rows(60, 2);
  const auto queries = Rows(50, 3);
  const auto basis = WeightedBasis(Gram(keys), Gram(queries), kWidth);
  ASSERT_TRUE(basis.ok()) << basis.status();
  std::vector<double> scores;
  for (size_t a = 0; a < keys.size(); a += kWidth) {
    for (size_t b = 0; b < queries.size(); b += kWidth) {
      double product = 0;
      for (int64_t i = 0; i < kWidth; ++i) product += keys[a + i] * queries[b + i];
      scores.push_back(product);
    }
  }
  auto singular = SingularValues(scores, 60, 50);
  ASSERT_TRUE(singular.ok()) << singular.status();
  std::vector<double> squares;
  for (const double value : singular->values) squares.push_back(value * value);
  for (int64_t rank = 0; rank < kWidth; ++rank) {
    const double error = ProductEnergy(Difference(keys, Approximate(*basis, keys, rank)), queries);
    // The ridge of 1e-6 of the mean diagonal moves the optimum by its share of the metric.
    EXPECT_NEAR(error, TailOf(squares, rank), 2e-6 * squares[0]) << rank;
  }
}

TEST(WeightedBasisTest, ErrorsOfLatentsCountAlike) {
  auto metric = Gram(Rows(40, 4));
  const auto basis = WeightedBasis(Gram(Rows(60, 5)), metric, kWidth);
  ASSERT_TRUE(basis.ok()) << basis.status();
  double mean = 0;
  for (int64_t i = 0; i < kWidth; ++i) mean += metric[i * kWidth + i] / kWidth;
  for (int64_t i = 0; i < kWidth; ++i) metric[i * kWidth + i] += 1e-6 * mean;
  for (int64_t a = 0; a < kWidth; ++a) {
    for (int64_t b = 0; b < kWidth; ++b) {
      double product = 0;  // decoder_a^T M decoder_b
      for (int64_t i = 0; i < kWidth; ++i) {
        for (int64_t j = 0; j < kWidth; ++j) {
          product += basis->decoder[a * kWidth + i] *
                     metric[std::min(i, j) * kWidth + std::max(i, j)] *
                     basis->decoder[b * kWidth + j];
        }
      }
      EXPECT_NEAR(product, a == b ? 1.0 : 0.0, 1e-7) << a << ", " << b;
    }
  }
}

TEST(WeightedBasisTest, SurvivesSingularMatrices) {
  std::vector<double> one(kWidth, 1.0);  // rank one
  const auto basis = WeightedBasis(Gram(one), Gram(one), kWidth);
  ASSERT_TRUE(basis.ok()) << basis.status();
  for (const auto* numbers : {&basis->encoder, &basis->decoder, &basis->gains}) {
    for (const double number : *numbers) EXPECT_TRUE(std::isfinite(number));
  }
}

TEST(WeightedBasisTest, SaysWhatIsWrongWithItsInput) {
  const std::vector<double> zero(kWidth * kWidth, 0.0);
  const auto dead = WeightedBasis(Gram(Rows(20, 6)), zero, kWidth);
  EXPECT_EQ(dead.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(dead.status().message(), testing::HasSubstr("zero"));
  std::vector<double> broken = Gram(Rows(20, 6));
  broken[3] = NAN;
  EXPECT_EQ(WeightedBasis(broken, {}, kWidth).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(WeightedBasis(Gram(Rows(20, 6)), broken, kWidth).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ChannelBasisTest, KeepsTheChannelsThatCostMost) {
  std::vector<double> moment(kWidth * kWidth, 0.0);
  std::vector<double> metric(kWidth * kWidth, 0.0);
  for (int64_t i = 0; i < kWidth; ++i) {
    moment[i * kWidth + i] = static_cast<double>(i + 1);
    metric[i * kWidth + i] = i == 2 ? 100.0 : 1.0;
  }
  const auto basis = ChannelBasis(moment, metric, kWidth);
  ASSERT_TRUE(basis.ok()) << basis.status();
  EXPECT_EQ(basis->gains[0], 300.0);
  EXPECT_EQ(basis->encoder[2], 1.0);
  EXPECT_EQ(basis->gains[1], 12.0);
  EXPECT_EQ(basis->encoder[kWidth + 11], 1.0);
  EXPECT_EQ(basis->encoder, basis->decoder);
}

}  // namespace
}  // namespace lorc
