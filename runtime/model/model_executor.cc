#include "runtime/model/model_executor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/ops/linear.h"
#include "runtime/model/local_sequences.h"
#include "runtime/sampling/sampler.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

BackendLimits LimitsOf(const ModelConfig& config, const KvLayout& layout,
                       const ExecutorOptions& options) {
  BackendLimits limits;
  limits.max_rows = options.max_step_tokens;
  limits.max_sequences = options.max_step_sequences;
  limits.max_logit_rows = options.max_logit_rows();
  limits.max_columns = std::max({config.hidden_size, config.query_width(), config.ffn_size});
  limits.max_gated_width = config.ffn_size;
  limits.max_context = options.max_sequence_tokens;
  limits.num_heads = config.num_heads;
  limits.num_kv_heads = config.num_kv_heads;
  limits.head_dim = config.head_dim;
  limits.block_tokens = options.block_tokens;
  limits.layers = layout.layers;
  for (const CacheLayer& layer : layout.layers) {
    for (const CacheTensor* tensor : {&layer.key, &layer.value}) {
      limits.max_latent_width =
          std::max<int64_t>(limits.max_latent_width, int64_t{tensor->groups} * tensor->rank);
    }
  }
  return limits;
}

namespace {

absl::Status CheckWork(const SequenceWork& work, const ModelConfig& config,
                       int32_t max_sequence_tokens) {
  const int64_t end = int64_t{work.first} + work.count;
  const bool sound = work.first >= 0 && work.count > 0 && end <= std::ssize(work.tokens) &&
                     end <= max_sequence_tokens && work.num_prompt_tokens > 0;
  if (!sound) {
    return absl::InternalError(absl::StrCat("sequence ", work.sequence_id, ": positions ",
                                            work.first, " + ", work.count, " of ",
                                            work.tokens.size(), " tokens can't be computed"));
  }
  for (int64_t t = work.first; t < end; ++t) {
    if (work.tokens[t] < 0 || work.tokens[t] >= config.vocabulary_size) {
      return absl::InternalError(absl::StrCat("sequence ", work.sequence_id, ": token ",
                                              work.tokens[t], " is not in the vocabulary"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

ModelExecutor::ModelExecutor(Backend& backend, const ExecutorOptions& options)
    : backend_(backend), options_(options) {}

absl::StatusOr<std::unique_ptr<ModelExecutor>> ModelExecutor::Make(
    Backend& backend, const Checkpoint& checkpoint, const KvPlan& plan, const KvLayout& layout,
    const KvGeometry& geometry, const ExecutorOptions& options, const Progress& progress) {
  const ModelConfig& config = checkpoint.config();
  std::unique_ptr<ModelExecutor> executor(new ModelExecutor(backend, options));
  LlamaModel::Options model_options;
  model_options.weight_type = options.weight_type;
  model_options.max_step_tokens = options.max_step_tokens;
  model_options.max_logit_rows = options.max_logit_rows();
  LORC_ASSIGN_OR_RETURN(executor->model_,
                        LlamaModel::Load(backend, checkpoint, plan, model_options, progress));
  LORC_ASSIGN_OR_RETURN(executor->cache_,
                        KvCache::Make(backend, plan, config, layout, geometry,
                                      BasisType(options.weight_type), options.max_sequence_tokens));
  LORC_RETURN_IF_ERROR(backend.Reserve(LimitsOf(config, layout, options)));
  if (!backend.has_host_memory()) {
    LORC_ASSIGN_OR_RETURN(
        executor->host_logits_,
        backend.AllocateHost(int64_t{options.max_logit_rows()} * config.vocabulary_size *
                             static_cast<int64_t>(sizeof(float))));
  }
  LORC_RETURN_IF_ERROR(executor->WarmUp());
  LORC_RETURN_IF_ERROR(backend.status());
  return executor;
}

// Rows of every size that products are made for, then a prompt in one chunk and the token after it:
// they need the products of the cache.
absl::Status ModelExecutor::WarmUp() {
  for (const int32_t count : backend_.WarmUpRows(options_.max_step_tokens)) {
    tokens_.assign(count, 0);
    model_->Forward(tokens_, {}, *cache_);
    logit_rows_.assign(std::min(count, model_->max_logit_rows()), 0);
    model_->Logits(logit_rows_);
  }
  const int32_t chunk = std::min(options_.max_step_tokens, options_.max_sequence_tokens - 1);
  const std::vector<TokenId> tokens(chunk + 1, 0);
  LocalSequences sequences(cache_->geometry());
  const int sequence = sequences.Add();
  for (const auto& [first, count] : {std::pair(0, chunk), std::pair(chunk, 1)}) {
    LORC_ASSIGN_OR_RETURN(const SequenceWork work,
                          sequences.Prepare(sequence, tokens, chunk, first, count));
    LORC_RETURN_IF_ERROR(Forward({&work, 1}));
    sequences.Finish(sequence, first + count);
  }
  return absl::OkStatus();
}

absl::Status ModelExecutor::Forward(std::span<const SequenceWork> batch) {
  tokens_.clear();
  spans_.clear();
  for (const SequenceWork& work : batch) {
    LORC_RETURN_IF_ERROR(CheckWork(work, model_->config(), options_.max_sequence_tokens));
    SequenceSpan span;
    span.row = std::ssize(tokens_);
    span.count = work.count;
    span.first = work.first;
    span.num_prompt_tokens = work.num_prompt_tokens;
    span.latent_blocks = work.latent_blocks.data();
    span.exact_blocks = work.exact_blocks.data();
    spans_.push_back(span);
    const auto chunk = work.tokens.subspan(work.first, work.count);
    tokens_.insert(tokens_.end(), chunk.begin(), chunk.end());
  }
  if (std::ssize(tokens_) > options_.max_step_tokens ||
      std::ssize(batch) > options_.max_step_sequences) {
    return absl::InternalError(absl::StrCat("a step of ", batch.size(), " sequences and ",
                                            tokens_.size(), " tokens exceeds the limits"));
  }
  model_->Forward(tokens_, spans_, *cache_);
  return absl::OkStatus();
}

absl::Status ModelExecutor::Execute(std::span<const SequenceWork> batch,
                                    std::span<StepResult> results) {
  LORC_CHECK_EQ(batch.size(), results.size());
  if (batch.empty()) return absl::OkStatus();
  LORC_RETURN_IF_ERROR(Forward(batch));
  Choose(batch, results);
  return backend_.status();
}

bool ModelExecutor::ChosenRow::NeedsLogits() const {
  return result->status.ok() &&
         (sampling().temperature >= kLeastTemperature || sampling().num_logprobs >= 0 ||
          ChangesLogits(sampling(), num_generated()));
}

void ModelExecutor::Choose(std::span<const SequenceWork> batch, std::span<StepResult> results) {
  logit_rows_.clear();
  rows_.clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    results[i] = StepResult();
    if (batch[i].sampling == nullptr) continue;
    logit_rows_.push_back(static_cast<int32_t>(spans_[i].row + spans_[i].count - 1));
    rows_.push_back({.work = &batch[i], .result = &results[i], .own_logits = {}});
  }
  if (rows_.empty()) return;
  const std::span<float> logits = model_->Logits(logit_rows_);
  TakeStats(logits);
  bool needs_logits = false;
  for (size_t r = 0; r < rows_.size(); ++r) {
    ChosenRow& row = rows_[r];
    row.log_sum_exp = log_sum_exp_[r];
    if (!std::isfinite(row.log_sum_exp)) {
      row.result->status =
          absl::InternalError("the model's output is not finite for this sequence");
      continue;
    }
    row.result->token = argmax_[r];
    needs_logits = needs_logits || row.NeedsLogits();
  }
  if (needs_logits) ChooseFrom(OnHost(logits));
}

void ModelExecutor::ChooseFrom(std::span<float> logits) {
  const int64_t width = model_->config().vocabulary_size;
  const auto row_of = [&](size_t r) { return logits.subspan(r * width, width); };
  for (size_t r = 0; r < rows_.size(); ++r) {
    ChosenRow& row = rows_[r];
    if (!row.result->status.ok()) continue;
    // Reports are of the model's own distribution: they are read before it is changed.
    const SamplingParams& sampling = row.sampling();
    const bool change = ChangesLogits(sampling, row.num_generated());
    if (sampling.num_logprobs > 0) {
      row.result->top = TopLogprobs(row_of(r), row.log_sum_exp, sampling.num_logprobs);
    }
    if (sampling.num_logprobs >= 0 && (change || sampling.temperature > 0)) {
      row.own_logits.assign(row_of(r).begin(), row_of(r).end());
    }
    if (change) {
      ChangeLogits(sampling, row.work->tokens, row.work->num_prompt_tokens, row_of(r));
      const Largest largest = FindLargest(row_of(r));
      argmax_[r] = largest.token;
      max_[r] = largest.logit;
    }
  }

  const int64_t num_blocks = (width + kWeightBlock - 1) / kWeightBlock;
  block_sums_.resize(rows_.size() * num_blocks);
  scale_.resize(rows_.size());
  for (size_t r = 0; r < rows_.size(); ++r) {
    const float temperature = rows_[r].sampling().temperature;
    const bool draws =
        temperature >= kLeastTemperature && rows_[r].result->status.ok() && std::isfinite(max_[r]);
    scale_[r] = draws ? 1.0f / temperature : 0.0f;
  }
  backend_.Weights({std::ssize(rows_), width, logits.data(), width, max_.data(), scale_.data(),
                    block_sums_.data()});
  for (size_t r = 0; r < rows_.size(); ++r) {
    const ChosenRow& row = rows_[r];
    if (!row.result->status.ok()) continue;
    TokenId token = argmax_[r];
    if (scale_[r] != 0) {
      token = Draw(row.sampling(), row_of(r),
                   std::span(block_sums_).subspan(r * num_blocks, num_blocks), 1.0f,
                   UniformAt(row.sampling().seed, row.num_generated()));
    }
    row.result->token = token;
    if (row.sampling().num_logprobs >= 0) {
      const float logit = row.own_logits.empty() ? row_of(r)[token] : row.own_logits[token];
      row.result->chosen = {token, logit - row.log_sum_exp};
    }
  }
}

std::span<float> ModelExecutor::OnHost(std::span<float> logits) {
  if (backend_.has_host_memory()) return logits;
  backend_.CopyOut(host_logits_.data(), logits.data(), static_cast<int64_t>(logits.size_bytes()));
  return {host_logits_.as<float>(), logits.size()};
}

void ModelExecutor::TakeStats(std::span<const float> logits) {
  const int64_t width = model_->config().vocabulary_size;
  const int64_t num_rows = std::ssize(logits) / width;
  argmax_.resize(num_rows);
  max_.resize(num_rows);
  log_sum_exp_.resize(num_rows);
  backend_.RowStats(
      {num_rows, width, logits.data(), width, argmax_.data(), max_.data(), log_sum_exp_.data()});
}

absl::Status ModelExecutor::Score(const SequenceWork& work, std::span<float> out,
                                  std::span<TokenId> best) {
  LORC_CHECK_EQ(std::ssize(out), work.count);
  LORC_CHECK(best.empty() || best.size() == out.size());
  LORC_RETURN_IF_ERROR(Forward({&work, 1}));
  const int64_t width = model_->config().vocabulary_size;
  for (int64_t begin = 0; begin < work.count; begin += model_->max_logit_rows()) {
    const int64_t num_rows = std::min<int64_t>(model_->max_logit_rows(), work.count - begin);
    logit_rows_.resize(num_rows);
    for (int64_t r = 0; r < num_rows; ++r) logit_rows_[r] = static_cast<int32_t>(begin + r);
    const std::span<float> device_logits = model_->Logits(logit_rows_);
    TakeStats(device_logits);
    const std::span<const float> logits = OnHost(device_logits);
    if (!best.empty()) std::copy_n(argmax_.begin(), num_rows, best.begin() + begin);
    for (int64_t r = 0; r < num_rows; ++r) {
      const int64_t next = work.first + begin + r + 1;
      out[begin + r] = next < std::ssize(work.tokens)
                           ? logits[r * width + work.tokens[next]] - log_sum_exp_[r]
                           : 0.0f;
      if (!std::isfinite(out[begin + r])) {
        LORC_RETURN_IF_ERROR(backend_.status());
        return absl::InternalError(
            absl::StrCat("the model's output is not finite at position ", work.first + begin + r));
      }
    }
  }
  return backend_.status();
}

}  // namespace lorc
