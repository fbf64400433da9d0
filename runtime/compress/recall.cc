#include "runtime/compress/recall.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/compress/score_sequence.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr int32_t kWindows = 16;
constexpr int32_t kPassages = 8;
constexpr int32_t kShift = 5;
constexpr int32_t kSkip = 21;  // tokens of the second copy that are not counted
constexpr int32_t kMaxDistancePassage = 320;

void Append(std::span<const TokenId> from, std::vector<TokenId>& to) {
  to.insert(to.end(), from.begin(), from.end());
}

int32_t Largest(const std::vector<int32_t>& distances) {
  return *std::max_element(distances.begin(), distances.end());
}

}  // namespace

std::vector<std::vector<TokenId>> RecallSequences(std::span<const TokenId> tokens, int32_t window) {
  const auto num_windows =
      static_cast<int32_t>(std::min<int64_t>(kWindows, std::ssize(tokens) / window));
  const int32_t copy = RecallPassageTokens(window);
  const auto gap_end = static_cast<int32_t>(int64_t{window} * 704 / 1024);
  std::vector<std::vector<TokenId>> sequences;
  if (copy == 0) return sequences;
  for (int32_t i = 0; i < std::min(kPassages, num_windows / 2); ++i) {
    const auto first = tokens.subspan(int64_t{i} * window, window);
    const auto other = tokens.subspan(int64_t{(i + kShift) % num_windows} * window, window);
    std::vector<TokenId>& sequence = sequences.emplace_back();
    Append(first.first(copy), sequence);
    Append(other.subspan(copy, gap_end - copy), sequence);
    Append(first.first(copy), sequence);
  }
  return sequences;
}

int32_t RecallPassageTokens(int32_t window) {
  return static_cast<int32_t>(int64_t{window} * 320 / 1024);
}

absl::StatusOr<double> CopyNll(ModelExecutor& executor, std::span<const TokenId> sequence,
                               int32_t passage) {
  LORC_ASSIGN_OR_RETURN(const std::vector<float> logprobs, ScoreSequence(executor, sequence));
  return MeanNll(std::span(logprobs).last(std::max(1, passage - kSkip)));
}

int32_t DistanceOptions::passage() const {
  return std::clamp(RecallPassageTokens(window), 1, kMaxDistancePassage);
}

int32_t DistanceOptions::longest_tokens() const {
  return distances.empty() ? 0 : Largest(distances) + passage();
}

absl::Status CheckDistances(const DistanceOptions& options, int64_t text_tokens,
                            int32_t context_length) {
  const int32_t passage = options.passage();
  const int64_t most = std::min<int64_t>(context_length - passage, text_tokens);
  for (const int32_t distance : options.distances) {
    if (distance >= passage && distance <= most) continue;
    if (most < passage) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--recall-distances: none fits: a passage of ", passage,
          " tokens is said twice, the model's context is ", context_length,
          " tokens and the text has ", text_tokens, "; give a longer text or a smaller --window"));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "--recall-distances: expected ", passage, " to ", most, " tokens (a passage of ", passage,
        ", a context of ", context_length, ", a text of ", text_tokens, "), got ", distance));
  }
  return absl::OkStatus();
}

std::vector<std::vector<TokenId>> DistanceSequences(std::span<const TokenId> tokens,
                                                    const DistanceOptions& options,
                                                    int32_t distance) {
  const int64_t stride = Largest(options.distances);
  const int64_t count = std::min<int64_t>(kPassages, std::ssize(tokens) / stride);
  std::vector<std::vector<TokenId>> sequences(count);
  for (int64_t i = 0; i < count; ++i) {
    Append(tokens.subspan(i * stride, distance), sequences[i]);
    Append(tokens.subspan(i * stride, options.passage()), sequences[i]);
  }
  return sequences;
}

absl::StatusOr<std::vector<DistanceRecall>> MeasureDistances(ModelExecutor& executor,
                                                             std::span<const TokenId> tokens,
                                                             const DistanceOptions& options,
                                                             const Progress& progress) {
  double total = 0;
  for (const int32_t distance : options.distances) total += distance;
  double done = 0;
  std::vector<DistanceRecall> results;
  for (const int32_t distance : options.distances) {
    DistanceRecall& result = results.emplace_back();
    result.distance = distance;
    const auto sequences = DistanceSequences(tokens, options, distance);
    const auto count = static_cast<double>(sequences.size());
    for (const auto& sequence : sequences) {
      LORC_ASSIGN_OR_RETURN(const double nll, CopyNll(executor, sequence, options.passage()));
      result.passage_nll.push_back(nll);
      result.nll += nll / count;
      done += distance / count;
      if (progress) progress(std::min(1.0, done / total));
    }
  }
  return results;
}

}  // namespace lorc
