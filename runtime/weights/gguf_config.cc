#include "runtime/weights/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/weights/config_limits.h"
#include "runtime/weights/gguf_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::Status CheckArchitecture(const GgufFields& fields) {
  // The other parts of a split model have no hyperparameters: ask before those are missed.
  LORC_ASSIGN_OR_RETURN(const int32_t parts, fields.Integer("split.count", 0, 1 << 16, 1));
  if (parts > 1)
    return fields.Unimplemented(absl::StrCat("the file is one of ", parts,
                                             " parts of a model; merge them with "
                                             "llama-gguf-split --merge"));
  LORC_ASSIGN_OR_RETURN(const std::string architecture, fields.String("general.architecture", ""));
  if (architecture.empty())
    return fields.Invalid("general.architecture is missing; the file is no language model");
  if (architecture != "llama")
    return fields.Unimplemented(absl::StrCat("the architecture is ", Printable(architecture),
                                             "; only \"llama\" is supported"));
  return absl::OkStatus();
}

// Keys with which a file of architecture "llama" says that it computes something else.
absl::Status CheckVariations(const GgufFields& fields, int32_t head_dim) {
  LORC_ASSIGN_OR_RETURN(const int32_t experts, fields.Integer("llama.expert_count", 0, 1 << 20, 0));
  if (experts > 0)
    return fields.Unimplemented(
        absl::StrCat("llama.expert_count is ", experts, "; mixtures of experts are not supported"));
  LORC_ASSIGN_OR_RETURN(const int32_t window,
                        fields.Integer("llama.attention.sliding_window", 0, kMaxContext, 0));
  if (window > 0)
    return fields.Unimplemented(absl::StrCat("llama.attention.sliding_window is ", window,
                                             "; sliding windows are not supported"));
  LORC_ASSIGN_OR_RETURN(const bool causal, fields.Bool("llama.attention.causal", true));
  if (!causal)
    return fields.Unimplemented(
        "llama.attention.causal is false; only causal models generate text");
  for (const char* key : {"llama.attention.scale", "llama.embedding_scale", "llama.residual_scale",
                          "llama.logit_scale", "llama.attn_logit_softcapping",
                          "llama.final_logit_softcapping", "llama.attention.clamp_kqv"})
    if (fields.Has(key)) return fields.Unimplemented(absl::StrCat(key, " is not supported"));
  LORC_ASSIGN_OR_RETURN(const int32_t value_width,
                        fields.Integer("llama.attention.value_length", 1, kMaxHeadDim, head_dim));
  LORC_ASSIGN_OR_RETURN(const int32_t rotated,
                        fields.Integer("llama.rope.dimension_count", 1, kMaxHeadDim, head_dim));
  if (value_width != head_dim || rotated != head_dim)
    return fields.Unimplemented(absl::StrCat("keys are ", head_dim, " wide, values ", value_width,
                                             ", and RoPE turns ", rotated,
                                             " elements; all three must be equal"));
  return absl::OkStatus();
}

// Llama 3.1's rule, which converters have worked out for every pair.
absl::Status ReadDivisors(const Gguf& gguf, const GgufFields& fields, int32_t head_dim,
                          RopeScaling* scaling) {
  const GgufTensor* tensor = gguf.FindTensor("rope_freqs.weight");
  if (tensor == nullptr) return absl::OkStatus();
  if (tensor->type != StoredType::kF32 || tensor->rank != 1 || tensor->extents[0] != head_dim / 2)
    return fields.Invalid(absl::StrCat("rope_freqs.weight must be a vector of ", head_dim / 2,
                                       " F32 values, half of a head; it is ", tensor->extents[0],
                                       " x ", GgmlTypeName(tensor->type_id)));
  if (scaling->type != RopeScaling::Type::kNone)
    return fields.Unimplemented("both llama.rope.scaling and rope_freqs.weight scale RoPE");
  std::vector<float> divisors(static_cast<size_t>(head_dim / 2));
  Dequantize(StoredType::kF32, tensor->data.data(), tensor->extents[0], divisors.data());
  for (const float divisor : divisors)
    if (!(divisor >= 1.0f / kMaxRopeFactor && divisor <= kMaxRopeFactor))
      return fields.Invalid(absl::StrCat("rope_freqs.weight holds ", divisor,
                                         "; positive numbers up to ", kMaxRopeFactor,
                                         " are supported"));
  if (std::ranges::all_of(divisors, [](float divisor) { return divisor == 1.0f; }))
    return absl::OkStatus();
  scaling->type = RopeScaling::Type::kPerPair;
  scaling->divisors = std::move(divisors);
  return absl::OkStatus();
}

absl::Status ReadRopeScaling(const Gguf& gguf, const GgufFields& fields, int32_t head_dim,
                             int32_t context_length, RopeScaling* scaling) {
  LORC_ASSIGN_OR_RETURN(const std::string type, fields.String("llama.rope.scaling.type", "none"));
  // Files from before llama.rope.scaling.* have the factor of linear scaling under another key.
  LORC_ASSIGN_OR_RETURN(const double old_factor,
                        fields.Number("llama.rope.scale_linear", 1e-6, kMaxRopeFactor, 1.0));
  LORC_ASSIGN_OR_RETURN(const double factor, fields.Number("llama.rope.scaling.factor", 1e-6,
                                                           kMaxRopeFactor, old_factor));
  LORC_ASSIGN_OR_RETURN(
      scaling->original_context_length,
      fields.Integer("llama.rope.scaling.original_context_length", 1, kMaxContext, context_length));
  const bool linear =
      type == "linear" || (!fields.Has("llama.rope.scaling.type") && old_factor != 1.0);
  if (!linear && type != "none")
    return fields.Unimplemented(absl::StrCat("llama.rope.scaling.type is ", Printable(type),
                                             "; \"none\" and \"linear\" are supported"));
  if (linear && factor != 1.0) {
    scaling->type = RopeScaling::Type::kLinear;
    scaling->factor = factor;
  }
  return ReadDivisors(gguf, fields, head_dim, scaling);
}

absl::StatusOr<int32_t> ReadVocabularySize(const Gguf& gguf, const GgufFields& fields) {
  const GgufTensor* embedding = gguf.FindTensor("token_embd.weight");
  if (embedding == nullptr)
    return fields.Invalid("tensor token_embd.weight is missing; the file holds no whole model");
  if (embedding->extents[1] > kMaxVocabulary)
    return fields.Invalid(absl::StrCat("token_embd.weight has ", embedding->extents[1],
                                       " rows; at most ", kMaxVocabulary, " are supported"));
  return static_cast<int32_t>(embedding->extents[1]);
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const Gguf& gguf) {
  const GgufFields fields(gguf);
  LORC_RETURN_IF_ERROR(CheckArchitecture(fields));
  ModelConfig config;
  config.architecture = "llama";
  LORC_ASSIGN_OR_RETURN(
      config.name,
      fields.String("general.name", std::filesystem::path(gguf.name()).stem().string()));
  LORC_ASSIGN_OR_RETURN(config.num_layers, fields.Integer("llama.block_count", 1, kMaxLayers));
  LORC_ASSIGN_OR_RETURN(config.hidden_size,
                        fields.Integer("llama.embedding_length", 1, kMaxHiddenSize));
  LORC_ASSIGN_OR_RETURN(config.num_heads,
                        fields.Integer("llama.attention.head_count", 1, kMaxHeads));
  LORC_ASSIGN_OR_RETURN(config.num_kv_heads, fields.Integer("llama.attention.head_count_kv", 1,
                                                            kMaxHeads, config.num_heads));
  LORC_ASSIGN_OR_RETURN(config.head_dim,
                        fields.Integer("llama.attention.key_length", 1, kMaxHeadDim, 0));
  if (config.head_dim == 0) {
    if (config.hidden_size % config.num_heads != 0)
      return fields.Invalid(absl::StrCat("llama.embedding_length ", config.hidden_size,
                                         " is no multiple of llama.attention.head_count ",
                                         config.num_heads,
                                         ", and llama.attention.key_length is missing"));
    config.head_dim = config.hidden_size / config.num_heads;
  }
  LORC_ASSIGN_OR_RETURN(config.ffn_size,
                        fields.Integer("llama.feed_forward_length", 1, kMaxFfnSize));
  LORC_ASSIGN_OR_RETURN(config.context_length,
                        fields.Integer("llama.context_length", 1, kMaxContext));
  LORC_ASSIGN_OR_RETURN(const double epsilon,
                        fields.Number("llama.attention.layer_norm_rms_epsilon", 1e-12, 1.0));
  config.rms_norm_epsilon = static_cast<float>(epsilon);
  LORC_ASSIGN_OR_RETURN(config.rope_base,
                        fields.Number("llama.rope.freq_base", 1.0, kMaxRopeBase, 10000.0));
  LORC_ASSIGN_OR_RETURN(config.vocabulary_size, ReadVocabularySize(gguf, fields));
  config.tied_embeddings = gguf.FindTensor("output.weight") == nullptr;
  LORC_RETURN_IF_ERROR(ValidateModelConfig(config, gguf.name()));
  LORC_RETURN_IF_ERROR(CheckVariations(fields, config.head_dim));
  LORC_RETURN_IF_ERROR(
      ReadRopeScaling(gguf, fields, config.head_dim, config.context_length, &config.rope_scaling));
  return config;
}

}  // namespace lorc
