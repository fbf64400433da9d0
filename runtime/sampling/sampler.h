// Choosing the next token of one sequence from its logits.
//
// Order of the steps: penalties and suppression change the logits; temperature 0 takes the largest
// (the first of equals); else probabilities are those of logits / temperature, of which top_k keeps
// the most likely k, top_p then the fewest whose share of what is left reaches p, and min_p those
// of at least min_p times the most likely one's. One of the kept is drawn in proportion, by a
// number that depends on the seed and on how many tokens have been generated alone: the same
// request gives the same tokens wherever it runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/sampling/sampling_params.h"

namespace lorc {

// Whether the logits of a sequence differ from the model's before probabilities are taken.
bool ChangesLogits(const SamplingParams& params, int64_t num_generated);

// Applies repetition penalty (over all known tokens; positive logits are divided, negative ones
// multiplied), presence and frequency penalties (over generated tokens) and, before min_tokens,
// suppression to `logits` [V].
void ChangeLogits(const SamplingParams& params, std::span<const TokenId> known_tokens,
                  int64_t num_prompt_tokens, std::span<float> logits);

// The largest of logits that are not NaN, the first of equals.
struct Largest {
  TokenId token = kNoToken;
  float logit = 0;
};
Largest FindLargest(std::span<const float> logits);

// The `count` largest logits as log-probabilities given ln sum exp of all, best first, ties in
// order of id.
std::vector<TokenLogprob> TopLogprobs(std::span<const float> logits, float log_sum_exp,
                                      int32_t count);

// Draws from unnormalised probabilities, of which the largest is `largest`; block_sums as kernels'
// WeightsArgs gives them. `uniform` in [0, 1).
TokenId Draw(const SamplingParams& params, std::span<const float> weights,
             std::span<const float> block_sums, float largest, double uniform);

// Uniform in [0, 1), a function of its arguments alone.
double UniformAt(uint64_t seed, uint64_t index);

}  // namespace lorc
