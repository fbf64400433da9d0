// Recall: what the far cache still knows. A sequence says a passage, then something else, then the
// passage again; the mean negative log-likelihood of the second copy, without its first 21 tokens
// (those it takes to recognise the passage), is near 0 for a model that can look it up. (Our
// definition.)
//
// In a window, the laboratory's figure: from the first n windows w (16, or as many as there are),
//   w_i[0:p] + w_(i+5 mod n)[p:q] + w_i[0:p],   p = 320/1024, q = 704/1024 of the window,
//   i < min(8, n/2).
//
// At a distance x: the passage has P = 320 tokens, 320/1024 of the window where that is less, and
// goes on as the text does until the copy starts x tokens after it did: with D the largest of the
// distances,
//   s_i[0:x] + s_i[0:P],   s_i the text from token i D on,   i < min(8, tokens / D),
// so that all distances ask for the same passages. At 3,776 that is the first 320 tokens again at
// the end of 4,096.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/model_executor.h"

namespace lorc {

// The sequences of the recall in a window; none where the text has fewer than two
// windows, or a window fewer than 4 tokens.
std::vector<std::vector<TokenId>> RecallSequences(std::span<const TokenId> tokens, int32_t window);

// The length of their copies.
int32_t RecallPassageTokens(int32_t window);

// Mean negative log-likelihood of the last `passage` tokens of the sequence without the first 21 of
// them (of the last one where there are no more). 0 < passage < sequence.size().
absl::StatusOr<double> CopyNll(ModelExecutor& executor, std::span<const TokenId> sequence,
                               int32_t passage);

struct DistanceOptions {
  std::vector<int32_t> distances;  // tokens
  int32_t window = 1024;

  int32_t passage() const;         // P above
  int32_t longest_tokens() const;  // of a sequence; 0 where there are no distances
};

// INVALID_ARGUMENT names the distance that fits neither the model's context nor the text, and what
// fits.
absl::Status CheckDistances(const DistanceOptions& options, int64_t text_tokens,
                            int32_t context_length);

// The sequences of a distance, one of options.distances, which CheckDistances has accepted.
std::vector<std::vector<TokenId>> DistanceSequences(std::span<const TokenId> tokens,
                                                    const DistanceOptions& options,
                                                    int32_t distance);

struct DistanceRecall {
  int32_t distance = 0;
  double nll = 0;                   // nats, mean over passages
  std::vector<double> passage_nll;  // the same passages at all distances
};

// In the order of the options, which CheckDistances has accepted.
absl::StatusOr<std::vector<DistanceRecall>> MeasureDistances(ModelExecutor& executor,
                                                             std::span<const TokenId> tokens,
                                                             const DistanceOptions& options,
                                                             const Progress& progress);

}  // namespace lorc
