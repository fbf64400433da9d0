// How the next token of one sequence is chosen. Plain data; ranges are checked by whoever fills it
// (service/).
#pragma once

#include <cstdint>
#include <vector>

namespace lorc {

using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;

// Smaller ones would make logits / temperature infinite.
inline constexpr float kLeastTemperature = 1e-5f;

struct SamplingParams {
  float temperature = 0.0f;         // [0, 2]; below kLeastTemperature: greedy
  int32_t top_k = 0;                // >= 0; 0 = off
  float top_p = 1.0f;               // (0, 1]; 1 = off
  float min_p = 0.0f;               // [0, 1); 0 = off
  float repetition_penalty = 1.0f;  // (0, 2]; 1 = off; over prompt and generated tokens
  float presence_penalty = 0.0f;    // [-2, 2]; 0 = off; over generated tokens
  float frequency_penalty = 0.0f;   // [-2, 2]; 0 = off; over generated tokens
  uint64_t seed = 0;                // same weights, plan, request and seed: same tokens
  int32_t num_logprobs = -1;  // -1: none; 0..20: the chosen token's and those of this many best
  int32_t min_tokens = 0;  // before this many generated tokens, suppressed_tokens are never chosen
  std::vector<TokenId> suppressed_tokens;
};

struct TokenLogprob {
  TokenId token = kNoToken;
  float logprob = 0.0f;  // natural log, of the model's unmodified distribution
};

}  // namespace lorc
