// libFuzzer: any texts as the JSON files of a Hugging Face folder. The input is the files' texts in
// the order below with a zero byte between.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kernels/base/check.h"
#include "runtime/weights/hf_config.h"
#include "runtime/weights/hf_tensors.h"
#include "runtime/weights/hf_vocabulary.h"
#include "runtime/weights/rope_divisors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::array<std::string_view, 6> texts;
  for (std::string_view& text : texts) {
    text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
  }
  constexpr int32_t kRows = 512;
  const auto vocabulary = lorc::ParseHfVocabulary({.tokenizer = texts[0],
                                                   .tokenizer_config = texts[1],
                                                   .special_tokens_map = texts[2],
                                                   .config = texts[3],
                                                   .generation_config = texts[4],
                                                   .chat_template = texts[5]},
                                                  kRows, "fuzz");
  if (vocabulary.ok()) {
    LORC_CHECK_LE(vocabulary->tokens.size(), size_t{kRows});
    for (const lorc::TokenId eos : vocabulary->eos)
      LORC_CHECK_LT(static_cast<size_t>(eos), vocabulary->tokens.size());
  }
  const auto config = lorc::ParseHfConfig(texts[3], "fuzz/config.json");
  if (config.ok())
    LORC_CHECK_EQ(lorc::RopeFrequencyDivisors(*config).size(),
                  static_cast<size_t>(config->head_dim / 2));
  (void)lorc::ParseShardIndex(texts[1], "fuzz/model.safetensors.index.json");
  return 0;
}
