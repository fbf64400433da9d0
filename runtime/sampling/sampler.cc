#include "runtime/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/check.h"
#include "kernels/ops/elementwise.h"

namespace lorc {
namespace {

struct Candidate {
  float weight;
  TokenId token;

  // Most likely first, ties in order of id.
  friend bool operator<(const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.token < b.token);
  }
};

double Total(std::span<const float> values) {
  double total = 0;
  for (const float value : values) total += value;
  return total;
}

// Position of `target` in the running sum of the values: the first index whose sum exceeds it.
template <typename Values, typename Get>
size_t Search(const Values& values, const Get& get, double& target) {
  size_t last_positive = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = get(values[i]);
    if (value <= 0) continue;
    if (target < value) return i;
    target -= value;
    last_positive = i;
  }
  // Rounding: sums of parts may fall short of the whole. The rest belongs to the last.
  target = 0;
  return last_positive;
}

TokenId DrawFromAll(std::span<const float> weights, std::span<const float> block_sums,
                    double uniform) {
  const auto same = [](float value) { return static_cast<double>(value); };
  double target = uniform * Total(block_sums);
  const size_t block = Search(block_sums, same, target);
  const size_t begin = block * kWeightBlock;
  const auto part = weights.subspan(begin, std::min<size_t>(kWeightBlock, weights.size() - begin));
  return static_cast<TokenId>(begin + Search(part, same, target));
}

// The candidates that can survive top_k and top_p, sorted: all weights above a threshold that is
// lowered until enough of them are there.
std::vector<Candidate> SortedCandidates(const SamplingParams& params,
                                        std::span<const float> weights, double total,
                                        float largest) {
  const auto wanted = params.top_k > 0 ? static_cast<size_t>(params.top_k) : weights.size();
  std::vector<Candidate> candidates;
  for (float threshold = largest * 0x1p-8f;; threshold *= 0x1p-8f) {
    if (threshold < std::numeric_limits<float>::min()) threshold = 0;
    candidates.clear();
    double mass = 0;
    for (size_t v = 0; v < weights.size(); ++v) {
      if (weights[v] > threshold) {
        candidates.push_back({weights[v], static_cast<TokenId>(v)});
        mass += weights[v];
      }
    }
    // Enough for top_k; without it, for top_p of everything.
    const bool enough =
        params.top_k > 0 ? candidates.size() >= wanted : mass >= params.top_p * total;
    if (enough || threshold == 0) break;
  }
  std::sort(candidates.begin(), candidates.end());
  if (candidates.size() > wanted) candidates.resize(wanted);
  return candidates;
}

}  // namespace

bool ChangesLogits(const SamplingParams& params, int64_t num_generated) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f ||
         params.frequency_penalty != 0.0f ||
         (num_generated < params.min_tokens && !params.suppressed_tokens.empty());
}

void ChangeLogits(const SamplingParams& params, std::span<const TokenId> known_tokens,
                  int64_t num_prompt_tokens, std::span<float> logits) {
  const auto in_range = [&](TokenId token) {
    return token >= 0 && static_cast<size_t>(token) < logits.size();
  };
  if (params.repetition_penalty != 1.0f) {
    std::vector<TokenId> tokens(known_tokens.begin(), known_tokens.end());
    std::sort(tokens.begin(), tokens.end());
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (const TokenId token : tokens) {
      if (!in_range(token)) continue;
      float& logit = logits[token];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      // A tiny penalty must not lead to infinity.
      logit = std::min(logit, std::numeric_limits<float>::max());
    }
  }
  const auto generated = known_tokens.subspan(num_prompt_tokens);
  if (params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f) {
    std::vector<TokenId> tokens(generated.begin(), generated.end());
    std::sort(tokens.begin(), tokens.end());
    for (size_t i = 0; i < tokens.size();) {
      size_t end = i;
      while (end < tokens.size() && tokens[end] == tokens[i]) ++end;
      if (in_range(tokens[i])) {
        logits[tokens[i]] -=
            params.presence_penalty + params.frequency_penalty * static_cast<float>(end - i);
      }
      i = end;
    }
  }
  if (std::ssize(generated) < params.min_tokens) {
    for (const TokenId token : params.suppressed_tokens) {
      if (in_range(token)) logits[token] = -std::numeric_limits<float>::infinity();
    }
  }
}

Largest FindLargest(std::span<const float> logits) {
  LORC_CHECK(!logits.empty());
  const auto top = std::max_element(logits.begin(), logits.end());
  return {static_cast<TokenId>(top - logits.begin()), *top};
}

std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, float log_sum_exp,
                                      int32_t count) {
  const auto most = std::min<size_t>(std::max(count, 0), logits.size());
  std::vector<Candidate> best;
  best.reserve(most + 1);
  for (size_t v = 0; v < logits.size() && most > 0; ++v) {
    const Candidate candidate{logits[v], static_cast<TokenId>(v)};
    if (best.size() == most && !(candidate < best.back())) continue;
    best.insert(std::upper_bound(best.begin(), best.end(), candidate), candidate);
    if (best.size() > most) best.pop_back();
  }
  std::vector<TokenLogprob> top;
  top.reserve(best.size());
  for (const Candidate& candidate : best) {
    top.push_back({candidate.token, candidate.weight - log_sum_exp});
  }
  return top;
}

TokenId Draw(const SamplingParams& params, std::span<const float> weights,
             std::span<const float> block_sums, float largest, double uniform) {
  const bool ranked = params.top_k > 0 || params.top_p < 1.0f;
  if (!ranked && params.min_p == 0.0f) return DrawFromAll(weights, block_sums, uniform);
  std::vector<Candidate> kept;
  if (ranked) {
    kept = SortedCandidates(params, weights, Total(block_sums), largest);
    if (params.top_p < 1.0f) {
      double mass = 0;
      // top_p counts shares of what top_k left; without top_k, of everything.
      double whole = 0;
      if (params.top_k > 0) {
        for (const Candidate& candidate : kept) whole += candidate.weight;
      } else {
        whole = Total(block_sums);
      }
      size_t count = 0;
      while (count < kept.size() && mass < params.top_p * whole) mass += kept[count++].weight;
      kept.resize(std::max<size_t>(count, 1));
    }
  } else {
    for (size_t v = 0; v < weights.size(); ++v) {
      if (weights[v] >= params.min_p * largest)
        kept.push_back({weights[v], static_cast<TokenId>(v)});
    }
  }
  std::erase_if(kept, [&](const Candidate& c) { return c.weight < params.min_p * largest; });
  LORC_CHECK(!kept.empty());
  double total = 0;
  for (const Candidate& candidate : kept) total += candidate.weight;
  double target = uniform * total;
  return kept[Search(
                  kept, [](const Candidate& c) { return static_cast<double>(c.weight); }, target)]
      .token;
}

double UniformAt(uint64_t seed, uint64_t index) {
  // SplitMix64 (Steele, Lea, Flood 2014) over the pair.
  const auto mix = [](uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  };
  return static_cast<double>(mix(mix(seed) ^ index) >> 11) * 0x1p-53;
}

}  // namespace lorc
