// Which Hugging Face folders are refused, and with what words; how config.json may be spelt.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "runtime/weights/checkpoint.h"
#include "runtime/weights/safetensors_writer.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/json_edit.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using nlohmann::json;
using test::FailsWith;
using test::IsInvalid;
using test::IsUnimplemented;
using test::TempFolder;
using test::TinyModel;

class HfCheckpointTest : public testing::Test {
 protected:
  HfCheckpointTest() { EXPECT_OK(test::WriteTinyHf(model_, {}, folder_.path())); }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() { return Checkpoint::Open(folder_.path()); }

  // Opens the folder with a changed config.json, and restores the file.
  absl::StatusOr<std::unique_ptr<Checkpoint>> With(const std::function<void(json&)>& change) {
    const std::string path = folder_.File("config.json");
    const std::string before = test::ReadFile(path);
    test::EditJson(path, change);
    auto result = Open();
    EXPECT_OK(test::WriteFile(path, before));
    return result;
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> With(const char* key, const json& value) {
    return With([&](json& config) { config[key] = value; });
  }

  RopeScaling ScalingOf(const char* key, const json& value) {
    const auto result = With([&](json& config) {
      config.erase("rope_parameters");
      config[key] = value;
    });
    EXPECT_OK(result);
    return result.ok() ? (*result)->config().rope_scaling : RopeScaling();
  }

  // Rewrites model.safetensors with a changed list of tensors.
  void Rewrite(const std::function<void(std::vector<SafetensorsTensor>&)>& change) {
    const std::string path = folder_.File("model.safetensors");
    const auto file = Safetensors::Open(path);
    ASSERT_OK(file);
    std::vector<SafetensorsTensor> tensors = file->tensors();
    change(tensors);
    ASSERT_OK(WriteSafetensors(path, tensors, {}));
  }

  TempFolder folder_;
  TinyModel model_;
};

const json kLlama3 = {{"rope_type", "llama3"},
                      {"factor", 8},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 256}};

TEST_F(HfCheckpointTest, OtherArchitectures) {
  EXPECT_THAT(With("model_type", "mistral"), IsUnimplemented({"config.json", "\"mistral\""}));
  EXPECT_THAT(With("architectures", json::array({"LlamaForSequenceClassification"})),
              IsUnimplemented({"LlamaForCausalLM"}));
  EXPECT_THAT(With([](json& config) {
                config.erase("model_type");
                config.erase("architectures");
              }),
              IsUnimplemented({"LlamaForCausalLM"}));
  EXPECT_OK(With([](json& config) { config.erase("model_type"); }));
  EXPECT_OK(With([](json& config) { config.erase("architectures"); }));
}

TEST_F(HfCheckpointTest, RequiredHyperparameters) {
  for (const std::string key : {"num_hidden_layers", "hidden_size", "num_attention_heads",
                                "intermediate_size", "vocab_size"}) {
    EXPECT_THAT(With([&](json& config) { config.erase(key); }), IsInvalid({key + " is missing"}));
    EXPECT_THAT(With(key.c_str(), nullptr), IsInvalid({key + " is missing"}));
    EXPECT_THAT(With(key.c_str(), -1), IsInvalid({key + " is -1"}));
    EXPECT_THAT(With(key.c_str(), 1e6), IsInvalid({key + " is not an integer"}));
    EXPECT_THAT(With(key.c_str(), "8"), IsInvalid({key + " is not an integer"}));
    EXPECT_THAT(With(key.c_str(), uint64_t{18446744073709551615u}),
                IsInvalid({key + " is not an integer"}));
    EXPECT_THAT(With(key.c_str(), int64_t{1} << 40), IsInvalid({key + " is 1099511627776"}));
  }
  EXPECT_THAT(With("rms_norm_eps", 0), IsInvalid({"rms_norm_eps is 0"}));
  EXPECT_THAT(With("rms_norm_eps", json::array()), IsInvalid({"rms_norm_eps is not a number"}));
  EXPECT_THAT(With("max_position_embeddings", 0), IsInvalid({"max_position_embeddings is 0"}));
  EXPECT_THAT(With("tie_word_embeddings", 1), IsInvalid({"tie_word_embeddings is not a bool"}));
}

TEST_F(HfCheckpointTest, DefaultsOfWhatMayBeAbsent) {
  const TinyModel model({.num_kv_heads = 4});
  ASSERT_OK(test::WriteTinyHf(model, {}, folder_.path()));
  const auto result = With([](json& config) {
    for (const char* key : {"_name_or_path", "attention_bias", "bos_token_id", "eos_token_id",
                            "hidden_act", "max_position_embeddings", "mlp_bias", "rms_norm_eps",
                            "tie_word_embeddings", "rope_parameters"})
      config.erase(key);
    config["num_key_value_heads"] = nullptr;
    config["head_dim"] = nullptr;
  });
  ASSERT_OK(result);
  const ModelConfig& config = (*result)->config();
  EXPECT_EQ(config.name, std::filesystem::path(folder_.path()).filename().string());
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.context_length, 2048);
  EXPECT_EQ(config.rms_norm_epsilon, 1e-6f);
  EXPECT_EQ(config.rope_base, 10000.0);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST_F(HfCheckpointTest, HyperparametersThatDoNotFitTogether) {
  EXPECT_THAT(With("num_key_value_heads", 3), IsInvalid({"4 query heads", "3 KV heads"}));
  EXPECT_THAT(With("head_dim", 12), IsInvalid({"12 wide"}));
  EXPECT_THAT(With([](json& config) {
                config.erase("head_dim");
                config["hidden_size"] = 4 * 520;
              }),
              IsInvalid({"520 wide", "512"}));
  EXPECT_THAT(With([](json& config) {
                config.erase("head_dim");
                config["hidden_size"] = 66;
              }),
              IsInvalid({"hidden_size 66 is no multiple"}));
}

TEST_F(HfCheckpointTest, Variations) {
  for (const char* key : {"attention_bias", "mlp_bias", "rope_interleaved"})
    EXPECT_THAT(With(key, true), IsUnimplemented({key, "is true"}));
  EXPECT_THAT(With("hidden_act", "gelu"), IsUnimplemented({"\"gelu\"", "\"silu\""}));
  EXPECT_THAT(With("sliding_window", 4096), IsUnimplemented({"sliding_window is set"}));
  EXPECT_THAT(With("quantization_config", json::object()),
              IsUnimplemented({"quantization_config"}));
  EXPECT_THAT(With("partial_rotary_factor", 0.5),
              IsUnimplemented({"partial_rotary_factor is 0.5"}));
  EXPECT_OK(With("sliding_window", nullptr));
}

TEST_F(HfCheckpointTest, RopeInTheOldSpelling) {
  EXPECT_EQ(ScalingOf("rope_scaling", nullptr).type, RopeScaling::Type::kNone);
  for (const char* type_key : {"type", "rope_type"}) {
    EXPECT_EQ(ScalingOf("rope_scaling", {{type_key, "default"}}).type, RopeScaling::Type::kNone);
    const RopeScaling linear = ScalingOf("rope_scaling", {{type_key, "linear"}, {"factor", 4}});
    EXPECT_EQ(linear.type, RopeScaling::Type::kLinear);
    EXPECT_EQ(linear.factor, 4.0);
  }
  const RopeScaling llama3 = ScalingOf("rope_scaling", kLlama3);
  EXPECT_EQ(llama3.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(llama3.factor, 8.0);
  EXPECT_EQ(llama3.low_freq_factor, 1.0);
  EXPECT_EQ(llama3.high_freq_factor, 4.0);
  EXPECT_EQ(llama3.original_context_length, 256);
  const auto based = With([](json& config) {
    config.erase("rope_parameters");
    config["rope_theta"] = 500000;
  });
  ASSERT_OK(based);
  EXPECT_EQ((*based)->config().rope_base, 500000.0);
}

TEST_F(HfCheckpointTest, RopeInTheNewSpelling) {
  json parameters = kLlama3;
  parameters["rope_theta"] = 500000.0;
  const auto result = With("rope_parameters", parameters);
  ASSERT_OK(result);
  EXPECT_EQ((*result)->config().rope_base, 500000.0);
  EXPECT_EQ((*result)->config().rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_THAT(With("rope_parameters", json{{"full_attention", {{"rope_theta", 1.0}}}}),
              IsUnimplemented({"kinds of layers"}));
  EXPECT_THAT(With("rope_parameters", 3), IsInvalid({"rope_parameters is not an object"}));
}

TEST_F(HfCheckpointTest, OddRopeScaling) {
  const auto with = [&](const char* key, const json& value) {
    json parameters = kLlama3;
    parameters[key] = value;
    return With("rope_parameters", parameters);
  };
  for (const char* type : {"yarn", "dynamic", "longrope", "mrope"})
    EXPECT_THAT(with("rope_type", type), IsUnimplemented({type, "\"llama3\" are supported"}));
  EXPECT_THAT(with("factor", nullptr), IsInvalid({"rope_parameters", "factor is missing"}));
  EXPECT_THAT(with("factor", 0), IsInvalid({"factor is 0"}));
  EXPECT_THAT(with("low_freq_factor", 4.0), IsInvalid({"the first must be smaller"}));
  EXPECT_THAT(with("original_max_position_embeddings", nullptr),
              IsInvalid({"original_max_position_embeddings is missing"}));
  EXPECT_THAT(with("rope_theta", 0), IsInvalid({"rope_theta is 0"}));
}

TEST_F(HfCheckpointTest, TensorsThatAreMissingOrOdd) {
  Rewrite([](auto& tensors) {
    std::erase_if(tensors, [](const auto& tensor) { return tensor.name == "lm_head.weight"; });
  });
  EXPECT_THAT(Open(), IsInvalid({"lm_head.weight is missing", "tie_word_embeddings"}));
  EXPECT_OK(With("tie_word_embeddings", true));
  ASSERT_OK(test::WriteTinyHf(model_, {}, folder_.path()));
  EXPECT_THAT(With("num_hidden_layers", 3),
              IsInvalid({"model.layers.2.input_layernorm.weight is missing"}));
  EXPECT_THAT(With("num_hidden_layers", 1), IsUnimplemented({"model.layers.1.", "of 1 layers"}));
  EXPECT_THAT(With("intermediate_size", 64),
              IsInvalid({"mlp.gate_proj.weight", "shape [96, 64]", "asks for [64, 64]"}));
  EXPECT_THAT(With("vocab_size", 300), IsInvalid({"embed_tokens", "[288, 64]", "[300, 64]"}));
}

TEST_F(HfCheckpointTest, TensorsThatDoNotMatterAndThatDo) {
  const std::string bytes(256, '\0');
  const auto data = std::as_bytes(std::span(bytes));
  Rewrite([&](auto& tensors) {
    tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq",
                       SafetensorsType::kF32,
                       {8},
                       data.subspan(0, 32)});
  });
  EXPECT_OK(Open());
  EXPECT_OK(With("tie_word_embeddings", true)) << "a copy of a tied embedding is left aside";
  Rewrite([&](auto& tensors) {
    tensors.push_back({"model.layers.0.self_attn.q_proj.bias", SafetensorsType::kF32, {64}, data});
  });
  EXPECT_THAT(Open(), IsUnimplemented({"q_proj.bias", "biases"}));
}

TEST_F(HfCheckpointTest, TensorsOfOtherTypes) {
  Rewrite([](auto& tensors) {
    for (SafetensorsTensor& tensor : tensors)
      if (tensor.name == "model.norm.weight") tensor.type = SafetensorsType::kI32;
  });
  EXPECT_THAT(Open(), IsUnimplemented({"model.norm.weight has dtype I32"}));
}

TEST_F(HfCheckpointTest, ShardsAreHeldToTheirIndex) {
  std::filesystem::remove(folder_.File("model.safetensors"));
  EXPECT_THAT(Open(), FailsWith(absl::StatusCode::kNotFound,
                                std::vector<std::string>{"neither model.safetensors"}));
  ASSERT_OK(test::WriteTinyHf(model_, {.num_shards = 2}, folder_.path()));
  const std::string index = folder_.File("model.safetensors.index.json");
  const std::string before = test::ReadFile(index);
  const auto with_map = [&](const json& weight_map) {
    test::EditJson(index, [&](json& object) { object["weight_map"] = weight_map; });
    auto result = Open();
    EXPECT_OK(test::WriteFile(index, before));
    return result;
  };
  EXPECT_THAT(with_map(json::array()), IsInvalid({"weight_map"}));
  EXPECT_THAT(with_map({{"a", "model-00001-of-00002.safetensors"}}),
              IsInvalid({"\"a\" is not in", "model-00001-of-00002.safetensors"}));
  EXPECT_THAT(with_map({{"a", "absent.safetensors"}}),
              FailsWith(absl::StatusCode::kNotFound, std::vector<std::string>{"absent"}));
  for (const char* outside : {"../model.safetensors", "/etc/x.safetensors", "passwd", ""})
    EXPECT_THAT(with_map({{"a", outside}}), IsInvalid({"in the same folder"}));
  EXPECT_THAT(with_map({{"a", 1}}), IsInvalid({"in the same folder"}));
  EXPECT_OK(Open());
}

TEST_F(HfCheckpointTest, TextThatIsNoConfig) {
  const auto with_text = [&](const std::string& text) {
    EXPECT_OK(test::WriteFile(folder_.File("config.json"), text));
    return Open();
  };
  EXPECT_THAT(with_text(""), IsInvalid({"config.json", "not valid JSON"}));
  EXPECT_THAT(with_text("{\"a\": \"\xff\"}"), IsInvalid({"not valid JSON"}));
  EXPECT_THAT(with_text("[1]"), IsInvalid({"object was expected, not array"}));
  EXPECT_THAT(with_text(std::string(1'000'000, '[')), IsInvalid({"nests more than 64"}));
  EXPECT_THAT(with_text("[" + std::string(5'000'000, ',') + "]"), IsInvalid({"more than"}));
}

}  // namespace
}  // namespace lorc
