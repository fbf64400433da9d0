// Encodes arbitrary bytes with a vocabulary made from them and checks that decoding gives them
// back; also hands arbitrary token texts and merges to Create.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/tokenizer/tokenizer.h"
#include "tests/tokenizer/toy_vocabulary.h"

namespace {

using lorc::Vocabulary;

// Cuts pieces off the input, each led by its length.
std::string Take(std::string_view* data) {
  if (data->empty()) return {};
  size_t size = static_cast<uint8_t>((*data)[0]) % 12;
  data->remove_prefix(1);
  if (size > data->size()) size = data->size();
  std::string piece(data->substr(0, size));
  data->remove_prefix(size);
  return piece;
}

constexpr const char* kNames[] = {"gpt2", "smollm", "llama3"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view data(reinterpret_cast<const char*>(bytes), size);
  if (data.size() < 4) return 0;
  const uint8_t flags = static_cast<uint8_t>(data[0]);
  const uint8_t num_merges = static_cast<uint8_t>(data[1]) % 8;
  const uint8_t num_special = static_cast<uint8_t>(data[2]) % 4;
  data.remove_prefix(3);

  std::vector<std::string> known = {"a", "b", " ", "\xC3", "1"};
  std::vector<std::pair<std::string, std::string>> merges;
  for (int i = 0; i < num_merges && data.size() >= 2; ++i) {
    const std::string left = known[static_cast<uint8_t>(data[0]) % known.size()];
    const std::string right = known[static_cast<uint8_t>(data[1]) % known.size()];
    data.remove_prefix(2);
    merges.emplace_back(left, right);
    known.push_back(left + right);
  }
  std::vector<std::pair<std::string, Vocabulary::Kind>> special;
  for (int i = 0; i < num_special; ++i) {
    special.emplace_back(Take(&data),
                         i % 2 == 0 ? Vocabulary::Kind::kControl : Vocabulary::Kind::kUserDefined);
  }
  Vocabulary vocabulary = lorc::ToyVocabulary(merges, special, kNames[flags % 3]);
  vocabulary.ignore_merges = (flags & 4) != 0;
  const auto tokenizer = lorc::Tokenizer::Create(vocabulary);
  if (!tokenizer.ok()) std::abort();
  const auto tokens = (*tokenizer)->Encode(data, (flags & 8) != 0);
  if ((*tokenizer)->Decode(tokens, true) != data) std::abort();

  // A vocabulary that nobody has checked: any answer but a crash will do.
  if ((flags & 16) != 0) {
    vocabulary.merges.emplace_back(Take(&data), Take(&data));
    vocabulary.tokens[static_cast<uint8_t>(flags)].text = Take(&data);
    vocabulary.tokens.push_back({Take(&data), static_cast<Vocabulary::Kind>(flags >> 6)});
    const auto odd = lorc::Tokenizer::Create(vocabulary);
    if (odd.ok()) (*odd)->Decode((*odd)->Encode(data, true), false);
  }
  return 0;
}
