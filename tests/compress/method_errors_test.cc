// What the papers' methods lose, on the real model's weights and statistics: no more than the
// discarded part of the spectrum that each is optimal for, found by another decomposition.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "runtime/compress/build_plan.h"
#include "runtime/compress/linear_algebra.h"
#include "tests/compress/held_out_text.h"
#include "tests/model/real_model.h"

namespace lorc {
namespace {

constexpr double kRelative = 1e-6;

double At(const std::vector<double>& upper, int64_t n, int64_t i, int64_t j) {
  return upper[std::min(i, j) * n + std::max(i, j)];
}

std::vector<double> Block(const std::vector<double>& upper, int64_t n, int64_t first,
                          int64_t width) {
  std::vector<double> block(width * width);
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width; ++j) block[i * width + j] = At(upper, n, first + i, first + j);
  }
  return block;
}

// tr(M (I - P) C (I - P)^T), P of the first `rank` numbers of a basis; M and C whole.
double Error(const GroupBasis& basis, int64_t rank, const std::vector<double>& metric,
             const std::vector<double>& moment) {
  const int64_t n = basis.width();
  std::vector<double> rest(n * n, 0.0);  // I - P
  for (int64_t i = 0; i < n; ++i) {
    rest[i * n + i] = 1;
    for (int64_t j = 0; j < n; ++j) {
      for (int64_t r = 0; r < rank; ++r) {
        rest[i * n + j] -= basis.decoder[r * n + i] * basis.encoder[r * n + j];
      }
    }
  }
  const auto product = [n](const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> out(n * n, 0.0);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < n; ++k) {
        for (int64_t j = 0; j < n; ++j) out[i * n + j] += a[i * n + k] * b[k * n + j];
      }
    }
    return out;
  };
  const std::vector<double> left = product(metric, rest);
  const std::vector<double> right = product(rest, moment);
  double error = 0;  // tr(left C rest^T) = sum of left * (rest C)
  for (int64_t i = 0; i < n * n; ++i) error += left[i] * right[i];
  return error;
}

// A factor F with F^T F = C: rows are eigenvectors times the roots of their values.
std::vector<double> Root(const std::vector<double>& symmetric, int64_t n) {
  auto eigen = SymmetricEigen(symmetric, n);
  EXPECT_TRUE(eigen.ok()) << eigen.status();
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      eigen->vectors[i * n + j] *= std::sqrt(std::max(eigen->values[i], 0.0));
    }
  }
  return eigen->vectors;
}

double Tail(const std::vector<double>& squares, int64_t rank) {
  return std::accumulate(squares.begin() + rank, squares.end(), 0.0);
}

std::vector<double> Squares(std::vector<double> values) {
  for (double& value : values) value *= value;
  return values;
}

class MethodErrorsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = Checkpoint::Open(test::RequiredEnvironment("LORC_TEST_MODEL"));
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = *std::move(opened);
    const auto tokenizer = Tokenizer::Create(*checkpoint_->ReadVocabulary());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    StatisticsOptions options;
    options.anchor = kAnchor;
    auto statistics = CollectStatistics(
        *checkpoint_, {(*tokenizer)->Encode(test::kHeldOutText, false)}, options, nullptr);
    ASSERT_TRUE(statistics.ok()) << statistics.status();
    statistics_ = *std::move(statistics);
  }

  ModelBases Bases(const char* method, int32_t groups, KvLayoutKind keys) const {
    CompressionOptions options;
    options.method = method;
    options.groups = groups;
    options.keys = keys;
    options.anchor = kAnchor;
    auto bases = ComputeBases(*checkpoint_, &statistics_, options, nullptr);
    EXPECT_TRUE(bases.ok()) << bases.status();
    return *std::move(bases);
  }

  static constexpr int32_t kAnchor = 256;
  std::unique_ptr<Checkpoint> checkpoint_;
  Statistics statistics_;
};

// || K Q^T - K A B^T Q^T ||^2, summed over the queries of a KV head: the squares of the singular
// values of K Q^T beyond the rank (Eckart and Young).
TEST_F(MethodErrorsTest, KqSvdReachesTheBoundOfLogits) {
  const ModelConfig& config = checkpoint_->config();
  const int64_t n = config.kv_width();
  const int64_t d = config.head_dim;
  const ModelBases bases = Bases("kq-svd", config.num_kv_heads, KvLayoutKind::kDirect);
  for (int32_t l = 0; l < config.num_layers; l += 7) {
    for (int32_t head = 0; head < config.num_kv_heads; ++head) {
      const LayerStatistics& layer = statistics_.layers[l];
      const auto keys = Block(layer.all.anchored_keys, n, head * d, d);
      std::vector<double> queries(d * d, 0.0);
      for (int32_t q = 0; q < config.heads_per_kv(); ++q) {
        const int64_t at = (int64_t{head} * config.heads_per_kv() + q) * d * d;
        const std::vector<double> of_head(layer.queries.begin() + at,
                                          layer.queries.begin() + at + d * d);
        for (int64_t i = 0; i < d; ++i) {
          for (int64_t j = 0; j < d; ++j) queries[i * d + j] += At(of_head, d, i, j);
        }
      }
      // K Q^T and root(K^T K) root(Q^T Q)^T have the same singular values.
      const std::vector<double> k = Root(keys, d), q = Root(queries, d);
      std::vector<double> scores(d * d, 0.0);
      for (int64_t a = 0; a < d; ++a) {
        for (int64_t b = 0; b < d; ++b) {
          for (int64_t i = 0; i < d; ++i) scores[a * d + b] += k[a * d + i] * q[b * d + i];
        }
      }
      const auto singular = SingularValues(scores, d, d);
      ASSERT_TRUE(singular.ok()) << singular.status();
      for (const int64_t rank : {8, 16, 32, 48}) {
        const double bound = Tail(Squares(singular->values), rank);
        EXPECT_NEAR(Error(bases.layers[l].key[head], rank, queries, keys), bound, kRelative * bound)
            << "layer " << l << " head " << head << " rank " << rank;
      }
    }
  }
}

// || Y - Y P ||^2 over the text's keys and values: the eigenvalues left out.
TEST_F(MethodErrorsTest, KvCoreLosesItsDiscardedSpectrum) {
  const ModelConfig& config = checkpoint_->config();
  const int64_t n = config.kv_width();
  const ModelBases bases = Bases("kv-core", 1, KvLayoutKind::kRebuilt);
  std::vector<double> identity(n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) identity[i * n + i] = 1;
  for (int32_t l = 0; l < config.num_layers; l += 7) {
    for (const bool is_key : {true, false}) {
      const LayerStatistics& layer = statistics_.layers[l];
      const auto moment = Block(is_key ? layer.all.unrotated_keys : layer.all.values, n, 0, n);
      const auto singular = SingularValues(Root(moment, n), n, n);
      ASSERT_TRUE(singular.ok()) << singular.status();
      const auto& groups = is_key ? bases.layers[l].key : bases.layers[l].value;
      for (const int64_t rank : {48, 96, 144}) {
        const double bound = Tail(Squares(singular->values), rank);
        EXPECT_NEAR(Error(groups[0], rank, identity, moment), bound, kRelative * bound)
            << "layer " << l << (is_key ? " key" : " value") << " rank " << rank;
      }
    }
  }
}

// || W - U_r U_r^T W ||^2: the squares of the weight's singular values left out.
TEST_F(MethodErrorsTest, LorcLosesTheWeightsDiscardedSpectrum) {
  const ModelConfig& config = checkpoint_->config();
  const int64_t n = config.kv_width();
  const ModelBases bases = Bases("lorc", 1, KvLayoutKind::kRebuilt);
  const auto spectra = ComputeWeightSpectra(*checkpoint_, nullptr);
  ASSERT_TRUE(spectra.ok()) << spectra.status();
  for (int32_t l = 0; l < config.num_layers; l += 7) {
    for (const bool is_key : {true, false}) {
      std::vector<float> weight(n * config.hidden_size);
      checkpoint_->ReadRows(is_key ? TensorRole::kKey : TensorRole::kValue, l, 0, n, weight.data());
      const GroupBasis& basis = is_key ? bases.layers[l].key[0] : bases.layers[l].value[0];
      const WeightSpectrum& spectrum = is_key ? (*spectra)[l].key : (*spectra)[l].value;
      for (const int64_t rank : {48, 96, 144}) {
        double error = 0;
        std::vector<double> column(n), latent(rank);
        for (int64_t c = 0; c < config.hidden_size; ++c) {
          for (int64_t i = 0; i < n; ++i) column[i] = weight[i * config.hidden_size + c];
          for (int64_t r = 0; r < rank; ++r) {
            latent[r] = std::inner_product(column.begin(), column.end(),
                                           basis.encoder.begin() + r * n, 0.0);
          }
          for (int64_t i = 0; i < n; ++i) {
            double rest = column[i];
            for (int64_t r = 0; r < rank; ++r) rest -= latent[r] * basis.decoder[r * n + i];
            error += rest * rest;
          }
        }
        const double bound = Tail(Squares(spectrum.values), rank);
        EXPECT_NEAR(error, bound, kRelative * bound)
            << "layer " << l << (is_key ? " key" : " value") << " rank " << rank;
      }
    }
  }
}

}  // namespace
}  // namespace lorc
