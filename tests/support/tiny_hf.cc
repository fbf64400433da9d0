#include <array>
#include <utility>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/weights/safetensors_writer.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/tensor_role.h"
#include "tests/support/files.h"
#include "tests/support/quantize.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {
namespace {

using Json = nlohmann::ordered_json;

std::string TensorName(TensorRole role, int32_t layer) {
  static constexpr std::array<const char*, kAllTensorRoles.size()> kNames = {
      "model.embed_tokens",       "model.norm",       "lm_head",          "input_layernorm",
      "self_attn.q_proj",         "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "post_attention_layernorm", "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  const char* name = kNames[static_cast<size_t>(role)];
  return IsPerLayer(role) ? absl::StrCat("model.layers.", layer, ".", name, ".weight")
                          : absl::StrCat(name, ".weight");
}

Json RopeScalingJson(const RopeScaling& scaling, const char* type_key) {
  switch (scaling.type) {
    case RopeScaling::Type::kNone:
    case RopeScaling::Type::kPerPair:
      return {{type_key, "default"}};
    case RopeScaling::Type::kLinear:
      return {{type_key, "linear"}, {"factor", scaling.factor}};
    case RopeScaling::Type::kLlama3:
      return {{type_key, "llama3"},
              {"factor", scaling.factor},
              {"low_freq_factor", scaling.low_freq_factor},
              {"high_freq_factor", scaling.high_freq_factor},
              {"original_max_position_embeddings", scaling.original_context_length}};
  }
  return {};
}

Json ConfigJson(const TinyModel& model, const TinyHfOptions& options) {
  const ModelConfig& config = model.config();
  Json json = {
      {"_name_or_path", config.name},
      {"architectures", {"LlamaForCausalLM"}},
      {"attention_bias", false},
      {"bos_token_id", model.vocabulary().bos},
      {"eos_token_id", model.vocabulary().eos[0]},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.ffn_size},
      {"max_position_embeddings", config.context_length},
      {"mlp_bias", false},
      {"model_type", "llama"},
      {"num_attention_heads", config.num_heads},
      {"num_hidden_layers", config.num_layers},
      {"num_key_value_heads", config.num_kv_heads},
      {"rms_norm_eps", config.rms_norm_epsilon},
      {"tie_word_embeddings", config.tied_embeddings},
      {"vocab_size", config.vocabulary_size},
  };
  if (options.rope_parameters) {
    json["rope_parameters"] = RopeScalingJson(config.rope_scaling, "rope_type");
    json["rope_parameters"]["rope_theta"] = config.rope_base;
  } else {
    json["rope_theta"] = config.rope_base;
    const bool scaled = config.rope_scaling.type != RopeScaling::Type::kNone;
    json["rope_scaling"] = scaled ? RopeScalingJson(config.rope_scaling, "type") : Json();
  }
  return json;
}

Json TokenizerJson(const Vocabulary& vocabulary, bool merges_as_pairs) {
  Json vocab = Json::object();
  Json added = Json::array();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const Vocabulary::Token& token = vocabulary.tokens[id];
    vocab[token.text] = id;
    if (token.kind == Vocabulary::Kind::kNormal) continue;
    added.push_back({{"id", id},
                     {"content", token.text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", token.kind == Vocabulary::Kind::kControl}});
  }
  Json merges = Json::array();
  for (const auto& [left, right] : vocabulary.merges)
    merges.push_back(merges_as_pairs ? Json::array({left, right})
                                     : Json(absl::StrCat(left, " ", right)));
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"}, {"pretokenizers", Json::array({digits, byte_level})}}},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"byte_fallback", false},
            {"ignore_merges", vocabulary.ignore_merges},
            {"vocab", vocab},
            {"merges", merges}}}};
}

Json TokenizerConfigJson(const Vocabulary& vocabulary) {
  const auto text = [&](TokenId id) { return vocabulary.tokens[static_cast<size_t>(id)].text; };
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"bos_token", text(vocabulary.bos)},
          {"eos_token", text(vocabulary.eos[0])},
          {"add_bos_token", vocabulary.add_bos},
          {"chat_template", vocabulary.chat_template}};
}

SafetensorsType ToSafetensorsType(StoredType type) {
  return type == StoredType::kF16    ? SafetensorsType::kF16
         : type == StoredType::kBf16 ? SafetensorsType::kBf16
                                     : SafetensorsType::kF32;
}

absl::Status WriteTensors(const TinyModel& model, const TinyHfOptions& options,
                          const std::string& folder) {
  const ModelConfig& config = model.config();
  std::vector<std::string> data;
  data.reserve(static_cast<size_t>(NumTensors(config)));
  std::vector<SafetensorsTensor> tensors;
  for (const TensorRole role : kAllTensorRoles) {
    if (role == TensorRole::kOutput && config.tied_embeddings) continue;
    const TensorShape shape = ExpectedShape(config, role);
    std::vector<int64_t> extents = {shape.columns};
    if (!IsNorm(role)) extents.insert(extents.begin(), shape.rows);
    for (int32_t layer = 0; layer < (IsPerLayer(role) ? config.num_layers : 1); ++layer) {
      data.push_back(Quantize(options.type, model.Values(role, layer)));
      tensors.push_back({TensorName(role, layer), ToSafetensorsType(options.type), extents,
                         std::as_bytes(std::span(data.back()))});
    }
  }
  const SafetensorsMetadata metadata = {{"format", "pt"}};
  if (options.num_shards == 0)
    return WriteSafetensors(folder + "/model.safetensors", tensors, metadata);

  Json weight_map = Json::object();
  std::vector<std::vector<SafetensorsTensor>> shards(static_cast<size_t>(options.num_shards));
  for (size_t i = 0; i < tensors.size(); ++i) shards[i % shards.size()].push_back(tensors[i]);
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
    for (const SafetensorsTensor& tensor : shards[i]) weight_map[tensor.name] = name;
    LORC_RETURN_IF_ERROR(WriteSafetensors(absl::StrCat(folder, "/", name), shards[i], metadata));
  }
  return WriteFile(folder + "/model.safetensors.index.json",
                   Json({{"metadata", Json::object()}, {"weight_map", weight_map}}).dump(1));
}

}  // namespace

absl::Status WriteTinyHf(const TinyModel& model, const TinyHfOptions& options,
                         const std::string& folder) {
  if (model.config().rope_scaling.type == RopeScaling::Type::kPerPair)
    return absl::InvalidArgumentError("config.json cannot spell divisors per pair");
  LORC_RETURN_IF_ERROR(WriteFile(folder + "/config.json", ConfigJson(model, options).dump(1)));
  LORC_RETURN_IF_ERROR(
      WriteFile(folder + "/tokenizer.json",
                TokenizerJson(model.vocabulary(), options.merges_as_pairs).dump(1)));
  LORC_RETURN_IF_ERROR(WriteFile(folder + "/tokenizer_config.json",
                                 TokenizerConfigJson(model.vocabulary()).dump(1)));
  return WriteTensors(model, options, folder);
}

}  // namespace lorc::test
