#include "runtime/weights/hf_checkpoint.h"

#include <array>
#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/weights/hf_config.h"
#include "runtime/weights/hf_tensors.h"
#include "runtime/weights/hf_vocabulary.h"
#include "runtime/weights/mapped_checkpoint.h"
#include "runtime/weights/mapped_file.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

std::string TensorName(TensorRole role, int32_t layer) {
  static constexpr std::array<const char*, kAllTensorRoles.size()> kNames = {
      "model.embed_tokens",       "model.norm",       "lm_head",          "input_layernorm",
      "self_attn.q_proj",         "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
      "post_attention_layernorm", "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
  const char* name = kNames[static_cast<size_t>(role)];
  return IsPerLayer(role) ? absl::StrCat("model.layers.", layer, ".", name, ".weight")
                          : absl::StrCat(name, ".weight");
}

std::optional<StoredType> ToStoredType(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kF32:
      return StoredType::kF32;
    case SafetensorsType::kF16:
      return StoredType::kF16;
    case SafetensorsType::kBf16:
      return StoredType::kBf16;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<StoredTensor> FindTensor(const HfTensors& tensors, const std::string& folder,
                                        const ModelConfig& config, TensorRole role,
                                        const std::string& name) {
  const std::string source = absl::StrCat(Printable(folder), ": tensor ", name);
  const SafetensorsTensor* tensor = tensors.Find(name);
  if (tensor == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(
        source, " is missing; ",
        role == TensorRole::kOutput
            ? "a model that uses the embedding there says \"tie_word_embeddings\": true"
            : "names as LlamaForCausalLM saves them are needed, and all files of the model"));
  const std::optional<StoredType> type = ToStoredType(tensor->type);
  if (!type)
    return absl::UnimplementedError(absl::StrCat(source, " has dtype ", Name(tensor->type),
                                                 "; F32, F16 and BF16 are supported"));
  const TensorShape expected = ExpectedShape(config, role);
  std::vector<int64_t> shape = {expected.rows, expected.columns};
  if (IsNorm(role)) shape.erase(shape.begin());
  if (tensor->shape != shape)
    return absl::InvalidArgumentError(
        absl::StrCat(source, " has the shape [", absl::StrJoin(tensor->shape, ", "),
                     "]; config.json asks for [", absl::StrJoin(shape, ", "), "]"));
  return StoredTensor{*type, tensor->data.data(), expected, 0};
}

class HfCheckpoint final : public MappedCheckpoint {
 public:
  HfCheckpoint(std::string folder, HfTensors files, ModelConfig config,
               std::vector<StoredTensor> tensors)
      : MappedCheckpoint(std::move(config), std::move(tensors)),
        folder_(std::move(folder)),
        files_(std::move(files)) {}

  absl::StatusOr<Vocabulary> ReadVocabulary() const override {
    return ReadHfVocabulary(folder_, config().vocabulary_size);
  }

  void ReleasePages() const override { files_.ReleasePages(); }

 private:
  std::string folder_;
  HfTensors files_;
};

// A tensor without a role (a bias, an expert) means that the model computes more than we would.
absl::Status CheckNoOthers(const HfTensors& tensors, const std::string& folder,
                           const ModelConfig& config,
                           const std::set<std::string, std::less<>>& used) {
  for (const std::string& name : tensors.Names()) {
    // Old checkpoints carry RoPE's frequencies, tied ones sometimes a copy of the embedding.
    if (used.contains(name) || name.ends_with(".rotary_emb.inv_freq") ||
        (config.tied_embeddings && name == "lm_head.weight"))
      continue;
    return absl::UnimplementedError(absl::StrCat(
        Printable(folder), ": tensor ", Printable(name), " has no place in a plain LLaMA model of ",
        config.num_layers, " layers; biases, experts and adapters are not supported"));
  }
  return absl::OkStatus();
}

std::string FolderName(const std::string& folder) {
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHfCheckpoint(const std::string& folder) {
  const std::string config_path = folder + "/config.json";
  absl::StatusOr<MappedFile> config_file = MappedFile::Open(config_path);
  if (absl::IsNotFound(config_file.status()))
    return absl::NotFoundError(
        absl::StrCat(Printable(folder),
                     " holds no config.json, so it is no Hugging Face model; a "
                     "GGUF model is named by its file"));
  if (!config_file.ok()) return config_file.status();
  LORC_ASSIGN_OR_RETURN(ModelConfig config, ParseHfConfig(config_file->text(), config_path));
  if (config.name.empty()) config.name = FolderName(folder);
  LORC_ASSIGN_OR_RETURN(HfTensors files, HfTensors::Open(folder));

  std::vector<StoredTensor> tensors(static_cast<size_t>(NumTensors(config)));
  std::set<std::string, std::less<>> used;
  for (const TensorRole role : kAllTensorRoles) {
    const int32_t copies = IsPerLayer(role) ? config.num_layers : 1;
    for (int32_t layer = 0; layer < copies; ++layer) {
      const bool shared = role == TensorRole::kOutput && config.tied_embeddings;
      std::string name = TensorName(shared ? TensorRole::kTokenEmbedding : role, layer);
      LORC_ASSIGN_OR_RETURN(tensors[static_cast<size_t>(TensorIndex(role, layer))],
                            FindTensor(files, folder, config, role, name));
      used.insert(std::move(name));
    }
  }
  LORC_RETURN_IF_ERROR(CheckNoOthers(files, folder, config, used));
  return std::make_unique<HfCheckpoint>(folder, std::move(files), std::move(config),
                                        std::move(tensors));
}

}  // namespace lorc
