#include "service/model_host.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/make_backend.h"
#include "runtime/kv/plan_file.h"
#include "runtime/model/llama.h"
#include "runtime/weights/status_macros.h"
#include "service/config_values.h"

namespace lorc {
namespace {

// A server of shorter requests is hardly what somebody wants who did not say so.
constexpr int32_t kLeastDefaultSequence = 512;

absl::Status ReadText(ModelFiles* files) {
  LORC_ASSIGN_OR_RETURN(Vocabulary vocabulary, files->checkpoint->ReadVocabulary());
  const std::string source = vocabulary.chat_template;
  const auto text_of = [&vocabulary](TokenId id) {
    const bool known = id >= 0 && id < std::ssize(vocabulary.tokens);
    return known ? vocabulary.tokens[id].text : std::string();
  };
  const std::string bos = text_of(vocabulary.bos);
  const std::string eos = vocabulary.eos.empty() ? std::string() : text_of(vocabulary.eos.front());
  LORC_ASSIGN_OR_RETURN(files->tokenizer, Tokenizer::Create(std::move(vocabulary)));
  for (TokenId id = 0; id < files->tokenizer->size(); ++id) {
    files->longest_token_bytes =
        std::max(files->longest_token_bytes, files->tokenizer->TokenBytes(id).size());
  }
  if (source.empty()) {
    files->no_chat_reason = "the model has no chat template";
    return absl::OkStatus();
  }
  auto parsed = ChatTemplate::Parse(source, bos, eos);
  if (parsed.ok()) {
    files->chat_template = *std::move(parsed);
  } else {
    files->no_chat_reason =
        absl::StrCat("the model's chat template can't be used: ", parsed.status().message());
  }
  return absl::OkStatus();
}

absl::Status ReadKvPlan(const std::string& path, ModelFiles* files) {
  const ModelConfig& config = files->config();
  if (path.empty()) {
    files->plan = KvPlan::Full(config, SegmentTypeOf(files->full_type));
    return absl::OkStatus();
  }
  LORC_ASSIGN_OR_RETURN(files->plan, ReadPlan(path));
  const absl::Status status = CheckPlan(files->plan, *files->checkpoint);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

AvailableMemory MemoryFor(const Backend& backend) {
  const auto bytes = backend.free_device_bytes();
  return bytes ? AvailableMemory{*bytes, "free device memory", true} : FindAvailableMemory();
}

ExecutorOptions OptionsOf(const ModelFiles& files, const CacheSize& size) {
  return {files.weight_type, size.geometry.block_tokens, size.step.max_tokens,
          size.step.max_sequences, size.max_sequence_tokens};
}

// The longest request that the budget holds, `most` tokens or whole blocks; 0 where it holds none.
int32_t LongestThatFits(const CacheSize& size, int32_t most) {
  const int64_t block = size.geometry.block_tokens;
  int64_t fits = 0;
  int64_t too_long = size.geometry.Blocks(most) + 1;
  while (fits + 1 < too_long) {
    const int64_t blocks = fits + (too_long - fits) / 2;
    KvGeometry geometry = size.geometry;
    const auto tokens = static_cast<int32_t>(std::min<int64_t>(blocks * block, most));
    const PoolRequest request = {size.budget_bytes, size.scheduler.max_running, tokens,
                                 size.step.max_tokens};
    (SizePools(request, &geometry).ok() ? fits : too_long) = blocks;
  }
  return static_cast<int32_t>(std::min<int64_t>(fits * block, most));
}

absl::Status CheckMemory(const CacheSize& size) {
  const int64_t needed = size.memory.total() + size.budget_bytes;
  if (size.available.bytes == 0 || needed <= size.available.bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "weights ", RoundedBytes(size.memory.weights), " + activations ",
      RoundedBytes(size.memory.activations), " + workspace ", RoundedBytes(size.memory.workspace),
      " + KV cache ", RoundedBytes(size.budget_bytes), " = ", RoundedBytes(needed), ", but only ",
      RoundedBytes(size.available.bytes), " are available (", size.available.source,
      "); lower --kv-budget-bytes"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> OpenModel(const ServerConfig& config) {
  auto files = std::make_unique<ModelFiles>();
  LORC_ASSIGN_OR_RETURN(files->backend, MakeBackend(config.backend, config.threads));
  LORC_ASSIGN_OR_RETURN(files->checkpoint, Checkpoint::Open(config.model));
  LORC_RETURN_IF_ERROR(ReadText(files.get()));
  files->weight_type =
      DTypeFromName(config.weights).value_or(files->backend->default_weight_type());
  LORC_RETURN_IF_ERROR(files->backend->CheckWeightType(files->weight_type));
  files->full_type = ExactType(files->weight_type);
  LORC_RETURN_IF_ERROR(ReadKvPlan(config.plan, files.get()));
  LORC_ASSIGN_OR_RETURN(files->layout, MakeKvLayout(files->plan, files->config(),
                                                    config.block_tokens, files->full_type));
  for (const CacheLayer& layer : files->layout.layers) {
    LORC_RETURN_IF_ERROR(files->backend->CheckLayer(layer));
  }
  return files;
}

absl::StatusOr<CacheSize> SizeCache(const ServerConfig& config, const ModelFiles& files) {
  const int32_t context = files.config().context_length;
  if (config.max_sequence_tokens > context) {
    return absl::FailedPreconditionError(absl::StrCat("--max-sequence-tokens is ",
                                                      config.max_sequence_tokens,
                                                      ", the model's context length is ", context));
  }
  CacheSize size;
  size.step = {config.max_batch_tokens, std::min(config.max_running, config.max_batch_tokens)};
  size.geometry = files.layout.geometry;
  size.max_sequence_tokens = config.max_sequence_tokens > 0 ? config.max_sequence_tokens : context;
  size.scheduler.max_running = size.step.max_sequences;
  size.scheduler.max_waiting = config.max_waiting;
  size.scheduler.max_waiting_prompt_tokens = config.max_waiting_prompt_tokens;
  size.scheduler.look_ahead = config.look_ahead;
  size.scheduler.overtake_age_ns = config.overtake_age_ns;
  size.scheduler.slow_reader_timeout_ns = config.slow_reader_timeout_ns;

  size.available = MemoryFor(*files.backend);
  LORC_ASSIGN_OR_RETURN(size.memory, EstimateMemory(*files.backend, *files.checkpoint, files.plan,
                                                    files.layout, OptionsOf(files, size)));
  size.budget_is_default = config.kv_budget_bytes == 0;
  size.budget_bytes =
      size.budget_is_default
          ? DefaultKvBudget(size.available.bytes, size.available.device, size.memory, size.geometry,
                            size.max_sequence_tokens, size.step.max_tokens, size.step.max_sequences)
          : config.kv_budget_bytes;
  if (config.max_sequence_tokens == 0) {
    const int32_t fits = LongestThatFits(size, context);
    size.sequence_is_cut = fits < context;
    // Where less fits, the error below shows the arithmetic of this length.
    const int32_t least = std::min(context, kLeastDefaultSequence);
    if (size.sequence_is_cut) size.max_sequence_tokens = std::max(fits, least);
  }
  const PoolRequest pools = {size.budget_bytes, size.step.max_sequences, size.max_sequence_tokens,
                             size.step.max_tokens};
  LORC_RETURN_IF_ERROR(SizePools(pools, &size.geometry));
  size.scheduler.max_sequence_tokens = size.max_sequence_tokens;
  LORC_RETURN_IF_ERROR(CheckOptions(size.scheduler, size.step, size.geometry));
  LORC_RETURN_IF_ERROR(CheckLongestRequestFits(size.scheduler, size.step, size.geometry));
  LORC_RETURN_IF_ERROR(CheckMemory(size));
  return size;
}

absl::StatusOr<std::unique_ptr<ModelExecutor>> LoadModel(const ModelFiles& files,
                                                         const CacheSize& size,
                                                         const Progress& progress) {
  return ModelExecutor::Make(*files.backend, *files.checkpoint, files.plan, files.layout,
                             size.geometry, OptionsOf(files, size), progress);
}

}  // namespace lorc
