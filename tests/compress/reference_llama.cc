#include "tests/compress/reference_llama.h"

#include <algorithm>
#include <cmath>

#include "runtime/kv/rope.h"

namespace lorc::test {
namespace {

using Row = std::vector<double>;

// W x for W [rows, columns].
Row Times(const std::vector<float>& weight, const Row& x) {
  Row y(weight.size() / x.size(), 0.0);
  for (size_t r = 0; r < y.size(); ++r)
    for (size_t i = 0; i < x.size(); ++i) y[r] += weight[r * x.size() + i] * x[i];
  return y;
}

Row Normalized(const std::vector<float>& gain, const Row& x, double epsilon) {
  double square = 0;
  for (const double value : x) square += value * value;
  const double scale = 1 / std::sqrt(square / static_cast<double>(x.size()) + epsilon);
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * gain[i];
  return y;
}

void Add(const Row& from, Row& to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

// x less the logarithm of the sum of exponentials.
void LogSoftmax(Row& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double value : x) sum += std::exp(value - largest);
  for (double& value : x) value -= largest + std::log(sum);
}

}  // namespace

std::vector<double> Rotated(const ModelConfig& config, std::vector<double> heads,
                            int64_t position) {
  const std::vector<double> frequencies = InverseFrequencies(config);
  const int64_t half = config.head_dim / 2;
  for (int64_t first = 0; first < std::ssize(heads); first += config.head_dim) {
    for (int64_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(position) * frequencies[j];
      double& a = heads[first + j];
      double& b = heads[first + j + half];
      const double turned = a * std::cos(angle) - b * std::sin(angle);
      b = b * std::cos(angle) + a * std::sin(angle);
      a = turned;
    }
  }
  return heads;
}

ReferenceRun RunReference(const TinyModel& model, const std::vector<TokenId>& tokens,
                          int64_t prefix, int64_t window, const std::vector<FarOffsets>& offsets) {
  const ModelConfig& config = model.config();
  const int64_t d = config.head_dim;
  const int64_t num_tokens = std::ssize(tokens);
  Rows x;
  for (const TokenId token : tokens) {
    const float* row =
        model.Values(TensorRole::kTokenEmbedding, 0).data() + int64_t{token} * config.hidden_size;
    x.emplace_back(row, row + config.hidden_size);
  }
  ReferenceRun run;
  for (int32_t l = 0; l < config.num_layers; ++l) {
    ReferenceLayer layer;
    Rows near_keys, far_keys, far_values;
    for (int64_t t = 0; t < num_tokens; ++t) {
      layer.inputs.push_back(
          Normalized(model.Values(TensorRole::kAttentionNorm, l), x[t], config.rms_norm_epsilon));
      layer.queries.push_back(Times(model.Values(TensorRole::kQuery, l), layer.inputs[t]));
      layer.keys.push_back(Times(model.Values(TensorRole::kKey, l), layer.inputs[t]));
      layer.values.push_back(Times(model.Values(TensorRole::kValue, l), layer.inputs[t]));
      Row far_key = layer.keys[t];
      far_values.push_back(layer.values[t]);
      if (!offsets.empty() && !offsets[l].keys.empty()) Add(offsets[l].keys[t], far_key);
      if (!offsets.empty() && !offsets[l].values.empty()) Add(offsets[l].values[t], far_values[t]);
      near_keys.push_back(Rotated(config, layer.keys[t], t));
      far_keys.push_back(Rotated(config, far_key, t));
    }
    for (int64_t i = 0; i < num_tokens; ++i) {
      const Row query = Rotated(config, layer.queries[i], i);
      Row attended(config.query_width(), 0.0);
      for (int64_t head = 0; head < config.num_heads; ++head) {
        const int64_t kv = head / config.heads_per_kv() * d;
        const auto is_far = [&](int64_t j) {
          return i / 16 - j / 16 >= window / 16 && j / 16 >= prefix / 16;
        };
        Row scores;
        for (int64_t j = 0; j <= i; ++j) {
          const Row& key = is_far(j) ? far_keys[j] : near_keys[j];
          double score = 0;
          for (int64_t c = 0; c < d; ++c) score += query[head * d + c] * key[kv + c];
          scores.push_back(score / std::sqrt(static_cast<double>(d)));
        }
        LogSoftmax(scores);
        for (int64_t j = 0; j <= i; ++j) {
          const Row& value = is_far(j) ? far_values[j] : layer.values[j];
          for (int64_t c = 0; c < d; ++c)
            attended[head * d + c] += std::exp(scores[j]) * value[kv + c];
        }
      }
      Add(Times(model.Values(TensorRole::kAttentionOutput, l), attended), x[i]);
      const Row normalized =
          Normalized(model.Values(TensorRole::kFfnNorm, l), x[i], config.rms_norm_epsilon);
      Row gated = Times(model.Values(TensorRole::kGate, l), normalized);
      const Row up = Times(model.Values(TensorRole::kUp, l), normalized);
      for (size_t f = 0; f < gated.size(); ++f) gated[f] *= up[f] / (1 + std::exp(-gated[f]));
      Add(Times(model.Values(TensorRole::kDown, l), gated), x[i]);
    }
    run.layers.push_back(std::move(layer));
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    Row logits =
        Times(model.Values(TensorRole::kOutput, 0),
              Normalized(model.Values(TensorRole::kOutputNorm, 0), x[t], config.rms_norm_epsilon));
    LogSoftmax(logits);
    run.log_probabilities.push_back(std::move(logits));
  }
  return run;
}

}  // namespace lorc::test
