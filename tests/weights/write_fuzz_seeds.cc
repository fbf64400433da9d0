// Writes inputs from which the fuzzers of this folder and plan_fuzzer start:
// weights_write_fuzz_seeds FOLDER makes FOLDER/gguf, FOLDER/safetensors, FOLDER/hf_json and
// FOLDER/plan.
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/kv/plan_file.h"
#include "runtime/weights/safetensors_writer.h"
#include "tests/kv/plan_fixture.h"
#include "tests/support/files.h"
#include "tests/support/tiny_model.h"

namespace lorc::test {
namespace {

TinyModel SmallModel(bool scaled) {
  TinyModelOptions options = {.num_layers = 1,
                              .hidden_size = 32,
                              .num_heads = 2,
                              .num_kv_heads = 1,
                              .head_dim = 16,
                              .ffn_size = 32,
                              .vocabulary_size = 277,
                              .tied_embeddings = true};
  if (scaled) {
    options.rope_scaling.type = RopeScaling::Type::kLlama3;
    options.rope_scaling.factor = 8.0;
    options.rope_scaling.original_context_length = 256;
  }
  return TinyModel(options);
}

absl::Status WriteGgufSeeds(const std::string& folder) {
  for (const StoredType type : {StoredType::kF16, StoredType::kBf16, StoredType::kQ8_0,
                                StoredType::kQ4_0, StoredType::kQ4_1}) {
    const TinyModel model = SmallModel(type == StoredType::kQ8_0);
    absl::Status status =
        WriteTinyGguf(model, {.matrix_type = type}, absl::StrCat(folder, "/", Name(type)));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// A whole model's header is long; a short one lets the fuzzer get around sooner.
absl::Status WriteShortSafetensors(const std::string& path) {
  const std::string bytes = "0123456789abcdef";
  const auto data = std::as_bytes(std::span(bytes));
  const std::vector<SafetensorsTensor> tensors = {
      {"a", SafetensorsType::kF32, {2, 2}, data},
      {"b", SafetensorsType::kI8, {3}, data.subspan(0, 3)},
      {"c", SafetensorsType::kBf16, {0, 4}, {}},
      {"d", SafetensorsType::kF16, {}, data.subspan(0, 2)},
  };
  return WriteSafetensors(path, tensors, {{"format", "pt"}, {"plan", "{\"rank\": 8}"}});
}

absl::Status WriteHfSeeds(const std::string& safetensors_folder, const std::string& json_folder) {
  for (const bool old_spelling : {false, true}) {
    const TempFolder folder;
    const TinyHfOptions options = {.type = StoredType::kBf16,
                                   .rope_parameters = !old_spelling,
                                   .merges_as_pairs = !old_spelling};
    absl::Status status = WriteTinyHf(SmallModel(old_spelling), options, folder.path());
    const std::string name = old_spelling ? "old" : "new";
    std::string texts;
    for (const char* file : {"tokenizer.json", "tokenizer_config.json", "", "config.json"})
      texts += ReadFile(folder.File(file)) + '\0';
    status.Update(WriteFile(absl::StrCat(json_folder, "/", name), texts));
    status.Update(WriteFile(absl::StrCat(safetensors_folder, "/", name),
                            ReadFile(folder.File("model.safetensors"))));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lorc::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_fuzz_seeds FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  std::error_code ignored;
  for (const char* name : {"gguf", "safetensors", "hf_json", "plan"})
    std::filesystem::create_directories(absl::StrCat(folder, "/", name), ignored);
  absl::Status status = lorc::test::WriteGgufSeeds(folder + "/gguf");
  status.Update(lorc::test::WriteHfSeeds(folder + "/safetensors", folder + "/hf_json"));
  status.Update(lorc::test::WriteShortSafetensors(folder + "/safetensors/short"));
  status.Update(lorc::WritePlan(lorc::test::SmallPlan(), folder + "/plan/small"));
  status.Update(lorc::WritePlan(lorc::test::MixedPlan(), folder + "/plan/mixed"));
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
