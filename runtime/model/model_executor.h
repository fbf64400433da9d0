// The executor that runs a LLaMA model: a step's sequences through the model, and the next tokens
// chosen.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/executor.h"
#include "runtime/model/llama.h"

namespace lorc {

struct ExecutorOptions {
  DType weight_type = DType::kBf16;
  int32_t block_tokens = 16;
  int32_t max_step_tokens = 512;
  int32_t max_step_sequences = 32;
  int32_t max_sequence_tokens = 0;  // prompt and generated tokens of a sequence

  // Scoring holds 64 rows of logits at once.
  int32_t max_logit_rows() const { return std::max(max_step_sequences, 64); }
};

// What the backend's scratch is sized by. Refers to `layout`.
BackendLimits LimitsOf(const ModelConfig& config, const KvLayout& layout,
                       const ExecutorOptions& options);

class ModelExecutor final : public Executor {
 public:
  // Takes all memory: weights, cache (`geometry` with its numbers of blocks, from MakeKvLayout and
  // SizePools), activations and scratch. `plan` is valid for the checkpoint's model. Ends with
  // steps of every size, so that later ones find everything made. The backend outlives the
  // executor.
  static absl::StatusOr<std::unique_ptr<ModelExecutor>> Make(
      Backend& backend, const Checkpoint& checkpoint, const KvPlan& plan, const KvLayout& layout,
      const KvGeometry& geometry, const ExecutorOptions& options, const Progress& progress);

  const KvGeometry& kv_geometry() const override { return cache_->geometry(); }
  int32_t max_step_tokens() const override { return options_.max_step_tokens; }
  int32_t max_step_sequences() const override { return options_.max_step_sequences; }

  absl::Status Execute(std::span<const SequenceWork> batch, std::span<StepResult> results) override;

  // Computes one sequence's chunk and gives the log-probability (natural) of the token after each
  // of its positions: out[t] = ln p(tokens[first + t + 1] | tokens up to first + t), for first + t
  // + 1 < tokens.size(), else 0. `best`, empty or as long as `out`, gets the most likely token
  // there.
  absl::Status Score(const SequenceWork& work, std::span<float> out, std::span<TokenId> best = {});

  const LlamaModel& model() const { return *model_; }

 private:
  ModelExecutor(Backend& backend, const ExecutorOptions& options);

  // A sequence that wants its next token.
  struct ChosenRow {
    const SequenceWork* work = nullptr;
    StepResult* result = nullptr;
    float log_sum_exp = 0;  // of the model's own logits
    std::vector<float>
        own_logits;  // kept where they change before the choice and are reported after it

    const SamplingParams& sampling() const { return *work->sampling; }
    int64_t num_generated() const { return std::ssize(work->tokens) - work->num_prompt_tokens; }
    // Whether the choice or its report takes more than where the largest logit is.
    bool NeedsLogits() const;
  };

  // Runs the batch's rows through the model. INTERNAL where the batch breaks the step's contract.
  absl::Status Forward(std::span<const SequenceWork> batch);
  absl::Status WarmUp();
  void Choose(std::span<const SequenceWork> batch, std::span<StepResult> results);
  // For rows of which some need more than their largest logit. `logits` [rows, V] are changed.
  void ChooseFrom(std::span<float> logits);
  void TakeStats(std::span<const float> logits);
  // The model's logits where the program can read and change them.
  std::span<float> OnHost(std::span<float> logits);

  Backend& backend_;
  const ExecutorOptions options_;
  std::unique_ptr<LlamaModel> model_;
  std::unique_ptr<KvCache> cache_;
  Buffer host_logits_;  // [max_logit_rows, V]; empty where the backend's memory is the program's

  // Of the step that runs; kept for their memory. Of the next four, [r] belongs to rows_[r].
  std::vector<int32_t> tokens_;
  std::vector<SequenceSpan> spans_;
  std::vector<int32_t> logit_rows_;
  std::vector<ChosenRow> rows_;
  std::vector<int32_t> argmax_;
  std::vector<float> max_, log_sum_exp_, scale_;
  std::vector<float> block_sums_;
};

}  // namespace lorc
