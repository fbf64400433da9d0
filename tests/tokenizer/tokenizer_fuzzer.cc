// Encodes arbitrary bytes and checks that decoding gives them back, with a few fixed vocabularies
// (fast) or one made from the bytes (one input in eight); then also hands arbitrary token texts and
// merges to Create.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/tokenizer/tokenizer.h"
#include "tests/tokenizer/toy_vocabulary.h"

namespace {

using lorc::Tokenizer;
using lorc::Vocabulary;
using Kind = Vocabulary::Kind;

constexpr const char* kNames[] = {"gpt2", "smollm", "llama3"};

void Require(bool condition) {
  if (!condition) std::abort();
}

std::unique_ptr<Tokenizer> Make(const Vocabulary& vocabulary) {
  auto tokenizer = Tokenizer::Create(vocabulary);
  Require(tokenizer.ok());
  return *std::move(tokenizer);
}

const Tokenizer& FixedTokenizer(size_t pre_tokenizer, bool ignore_merges) {
  static const auto* tokenizers = [] {
    auto* all = new std::vector<std::unique_ptr<Tokenizer>>;
    for (size_t i = 0; i < 6; ++i) {
      Vocabulary vocabulary = lorc::ToyVocabulary(
          {{"a", "a"},
           {"aa", "aa"},
           {" ", "a"},
           {"\xC3", "\xA9"},
           {"1", "2"},
           {"'", "s"},
           {" a", "aa"},
           {"\n", "\n"},
           {" ", " "}},
          {{"<s>", Kind::kControl}, {"<s><", Kind::kControl}, {"a a", Kind::kUserDefined}},
          kNames[i / 2]);
      vocabulary.ignore_merges = i % 2 == 1;
      all->push_back(Make(vocabulary));
    }
    return all;
  }();
  return *(*tokenizers)[pre_tokenizer * 2 + (ignore_merges ? 1 : 0)];
}

void CheckRoundTrip(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    Require(tokenizer.Decode(tokenizer.Encode(text, parse_special), true) == text);
  }
}

// Cuts a piece off the input, led by its length.
std::string Take(std::string_view* data) {
  if (data->empty()) return {};
  const size_t size = std::min<size_t>(static_cast<uint8_t>((*data)[0]) % 12, data->size() - 1);
  std::string piece(data->substr(1, size));
  data->remove_prefix(1 + size);
  return piece;
}

void CheckOwnVocabulary(std::string_view data, uint8_t flags) {
  std::vector<std::string> known = {"a", "b", " ", "\xC3", "1"};
  std::vector<std::pair<std::string, std::string>> merges;
  for (int i = 0; i < 8 && data.size() >= 2; ++i) {
    const std::string left = known[static_cast<uint8_t>(data[0]) % known.size()];
    const std::string right = known[static_cast<uint8_t>(data[1]) % known.size()];
    data.remove_prefix(2);
    merges.emplace_back(left, right);
    known.push_back(left + right);
  }
  Vocabulary vocabulary = lorc::ToyVocabulary(
      merges, {{Take(&data), Kind::kControl}, {Take(&data), Kind::kUserDefined}},
      kNames[flags % 3]);
  vocabulary.ignore_merges = (flags & 4) != 0;
  CheckRoundTrip(*Make(vocabulary), data);

  // A vocabulary that nobody has checked: any answer but a crash will do.
  vocabulary.merges.emplace_back(Take(&data), Take(&data));
  vocabulary.tokens[flags].text = Take(&data);
  vocabulary.tokens.push_back({Take(&data), static_cast<Kind>(flags >> 3 & 3)});
  const auto odd = Tokenizer::Create(vocabulary);
  if (odd.ok()) (*odd)->Decode((*odd)->Encode(data, true), false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const uint8_t flags = bytes[0];
  const std::string_view data(reinterpret_cast<const char*>(bytes + 1), size - 1);
  if (flags >> 5 == 7) {
    CheckOwnVocabulary(data, flags);
  } else {
    CheckRoundTrip(FixedTokenizer(flags % 3, (flags & 4) != 0), data);
  }
  return 0;
}
