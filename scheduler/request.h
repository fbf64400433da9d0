// What a caller asks for and what it gets back, as plain data.
//
// Times are nanoseconds on one monotonic clock that whoever drives the scheduler chooses.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/sampling/sampling_params.h"

namespace lorc {

inline constexpr int64_t kNeverNs = std::numeric_limits<int64_t>::max();
inline constexpr int32_t kMinPriority = -100;
inline constexpr int32_t kMaxPriority = 100;

struct Request {
  std::string id;                 // the caller's name for it, for messages; need not be unique
  int64_t sequence_id = 0;        // > 0, unique among all requests of one scheduler
  std::vector<TokenId> prompt;    // at least one token, every id below the vocabulary's size
  int32_t max_tokens = 0;         // >= 1; prompt + max_tokens is what admission promises memory for
  int32_t min_tokens = 0;         // 0..max_tokens; no end or stop token ends it before this many
  std::vector<TokenId> eos_ids;   // the model's end tokens
  std::vector<TokenId> stop_ids;  // more tokens that end it
  bool ignore_eos = false;        // eos_ids are then tokens like others
  SamplingParams sampling;        // its min_tokens and suppressed_tokens are set by the scheduler
  int32_t priority = 0;           // kMinPriority..kMaxPriority, larger first
  int64_t arrival_ns = 0;         // queue time and age count from here
  int64_t deadline_ns = kNeverNs;  // ends with DEADLINE_EXCEEDED at or after this
};

enum class FinishReason { kNone, kEos, kLength, kStopToken, kStopString };
inline constexpr int kNumFinishReasons = 5;

// A token that ended the request (EOS or stop token) is handed out too: it was sampled, it counts
// in generated_tokens and max_tokens, but it is no part of the text.
struct GeneratedToken {
  TokenId token = kNoToken;
  bool ends_request = false;
  TokenLogprob chosen;            // set where logprobs were asked for
  std::vector<TokenLogprob> top;  // best first
};

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_prompt_tokens = 0;  // of them, not computed for this request
  int32_t generated_tokens = 0;      // for kStopString: as many as the caller said count
  // One after the other; their sum is the time from arrival to end.
  int64_t queue_ns = 0;       // arrival to admission
  int64_t prefill_ns = 0;     // admission to first token
  int64_t decode_ns = 0;      // first token to end
  int64_t kv_bytes = 0;       // cache blocks held at the end
  int64_t kv_bytes_full = 0;  // the computed tokens in an uncompressed bf16 cache
};

struct Outcome {
  // OK: `finish` says why it ended. Otherwise INVALID_ARGUMENT (can never run), RESOURCE_EXHAUSTED
  // (queue full), UNAVAILABLE (draining or broken), DEADLINE_EXCEEDED, CANCELLED (by the caller),
  // ABORTED (its reader was too slow) or INTERNAL (the executor failed).
  absl::Status status;
  FinishReason finish = FinishReason::kNone;
  Usage usage;
  int64_t retry_after_ns = 0;  // > 0 with RESOURCE_EXHAUSTED: when room is likely
};

}  // namespace lorc
