#include "runtime/weights/hf_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/config_limits.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::Status CheckArchitecture(const JsonFields& fields) {
  LORC_ASSIGN_OR_RETURN(const std::string model_type, fields.String("model_type", ""));
  if (!model_type.empty() && model_type != "llama")
    return fields.Unimplemented(
        absl::StrCat("model_type is ", Printable(model_type), "; only \"llama\" is supported"));
  const nlohmann::json* architectures = fields.Find("architectures");
  const bool named = architectures != nullptr && architectures->is_array() &&
                     std::ranges::any_of(*architectures, [](const nlohmann::json& name) {
                       return name.is_string() && name == "LlamaForCausalLM";
                     });
  if (named || (architectures == nullptr && !model_type.empty())) return absl::OkStatus();
  return fields.Unimplemented(
      "neither architectures names \"LlamaForCausalLM\" nor model_type alone says \"llama\"; no "
      "other model is supported");
}

// Settings with which a config of type "llama" says that it computes something else.
absl::Status CheckVariations(const JsonFields& fields) {
  for (const char* key : {"attention_bias", "mlp_bias", "rope_interleaved", "use_qk_norm"}) {
    LORC_ASSIGN_OR_RETURN(const bool value, fields.Bool(key, false));
    if (value) return fields.Unimplemented(absl::StrCat(key, " is true; it is not supported"));
  }
  LORC_ASSIGN_OR_RETURN(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish")
    return fields.Unimplemented(
        absl::StrCat("hidden_act is ", Printable(activation), "; only \"silu\" is supported"));
  for (const char* key : {"quantization_config", "sliding_window", "num_local_experts"})
    if (fields.Has(key))
      return fields.Unimplemented(
          absl::StrCat(key, " is set; only plain LLaMA models in F32, F16 or BF16 are supported"));
  return absl::OkStatus();
}

absl::Status ReadLlama3(const JsonFields& rope, const JsonFields& fields, RopeScaling* scaling) {
  scaling->type = RopeScaling::Type::kLlama3;
  LORC_ASSIGN_OR_RETURN(scaling->low_freq_factor,
                        rope.Number("low_freq_factor", 1e-6, kMaxRopeFactor));
  LORC_ASSIGN_OR_RETURN(scaling->high_freq_factor,
                        rope.Number("high_freq_factor", 1e-6, kMaxRopeFactor));
  const char* kOriginal = "original_max_position_embeddings";
  const JsonFields& holder = rope.Has(kOriginal) ? rope : fields;
  LORC_ASSIGN_OR_RETURN(scaling->original_context_length,
                        holder.Integer(kOriginal, 1, kMaxContext));
  return absl::OkStatus();
}

absl::Status ReadRope(const JsonFields& fields, const std::string& source, ModelConfig* config) {
  const char* key = fields.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const nlohmann::json empty = nlohmann::json::object();
  const nlohmann::json* object = fields.Find(key);
  if (object == nullptr) object = &empty;
  if (!object->is_object()) return fields.Invalid(absl::StrCat(key, " is not an object"));
  if (std::ranges::any_of(*object, [](const nlohmann::json& value) { return value.is_object(); }))
    return fields.Unimplemented(
        absl::StrCat(key, " differs between kinds of layers; it is not supported"));
  const JsonFields rope(*object, absl::StrCat(source, ", ", key));
  const JsonFields& base = rope.Has("rope_theta") ? rope : fields;
  LORC_ASSIGN_OR_RETURN(config->rope_base, base.Number("rope_theta", 1.0, kMaxRopeBase, 10000.0));
  const JsonFields& part = rope.Has("partial_rotary_factor") ? rope : fields;
  LORC_ASSIGN_OR_RETURN(const double rotated, part.Number("partial_rotary_factor", 0.0, 1.0, 1.0));
  if (rotated != 1.0)
    return fields.Unimplemented(
        absl::StrCat("partial_rotary_factor is ", rotated, "; RoPE must turn whole heads"));
  LORC_ASSIGN_OR_RETURN(const std::string old_type, rope.String("type", "default"));
  LORC_ASSIGN_OR_RETURN(const std::string type, rope.String("rope_type", old_type));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3")
    return fields.Unimplemented(
        absl::StrCat("the RoPE scaling is ", Printable(type),
                     "; \"default\", \"linear\" and \"llama3\" are supported"));
  RopeScaling& scaling = config->rope_scaling;
  LORC_ASSIGN_OR_RETURN(scaling.factor, rope.Number("factor", 1e-6, kMaxRopeFactor));
  if (type == "llama3") return ReadLlama3(rope, fields, &scaling);
  scaling.original_context_length = config->context_length;
  if (scaling.factor != 1.0) scaling.type = RopeScaling::Type::kLinear;
  return absl::OkStatus();
}

absl::Status ReadSizes(const JsonFields& fields, ModelConfig* config) {
  LORC_ASSIGN_OR_RETURN(config->num_layers, fields.Integer("num_hidden_layers", 1, kMaxLayers));
  LORC_ASSIGN_OR_RETURN(config->hidden_size, fields.Integer("hidden_size", 1, kMaxHiddenSize));
  LORC_ASSIGN_OR_RETURN(config->num_heads, fields.Integer("num_attention_heads", 1, kMaxHeads));
  LORC_ASSIGN_OR_RETURN(config->num_kv_heads,
                        fields.Integer("num_key_value_heads", 1, kMaxHeads, config->num_heads));
  LORC_ASSIGN_OR_RETURN(config->head_dim, fields.Integer("head_dim", 1, kMaxHeadDim, 0));
  if (config->head_dim == 0) {
    if (config->hidden_size % config->num_heads != 0)
      return fields.Invalid(absl::StrCat("hidden_size ", config->hidden_size,
                                         " is no multiple of num_attention_heads ",
                                         config->num_heads, ", and head_dim is missing"));
    config->head_dim = config->hidden_size / config->num_heads;
  }
  LORC_ASSIGN_OR_RETURN(config->ffn_size, fields.Integer("intermediate_size", 1, kMaxFfnSize));
  LORC_ASSIGN_OR_RETURN(config->vocabulary_size, fields.Integer("vocab_size", 1, kMaxVocabulary));
  LORC_ASSIGN_OR_RETURN(config->context_length,
                        fields.Integer("max_position_embeddings", 1, kMaxContext, 2048));
  return absl::OkStatus();
}

}  // namespace

// Defaults for what is absent are those of transformers' LlamaConfig.
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view json, const std::string& source) {
  nlohmann::json object;
  LORC_RETURN_IF_ERROR(ParseJsonObject(json, source, &object));
  const JsonFields fields(object, source);
  LORC_RETURN_IF_ERROR(CheckArchitecture(fields));
  LORC_RETURN_IF_ERROR(CheckVariations(fields));
  ModelConfig config;
  config.architecture = "llama";
  LORC_ASSIGN_OR_RETURN(const std::string saved_name, fields.String("_model_name_or_path", ""));
  LORC_ASSIGN_OR_RETURN(config.name, fields.String("_name_or_path", saved_name));
  LORC_RETURN_IF_ERROR(ReadSizes(fields, &config));
  LORC_ASSIGN_OR_RETURN(const double epsilon, fields.Number("rms_norm_eps", 1e-12, 1.0, 1e-6));
  config.rms_norm_epsilon = static_cast<float>(epsilon);
  LORC_ASSIGN_OR_RETURN(config.tied_embeddings, fields.Bool("tie_word_embeddings", false));
  LORC_RETURN_IF_ERROR(ReadRope(fields, source, &config));
  LORC_RETURN_IF_ERROR(ValidateModelConfig(config, source));
  return config;
}

}  // namespace lorc
