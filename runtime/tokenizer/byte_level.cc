#include "runtime/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "runtime/tokenizer/utf8.h"

namespace lorc {
namespace {

constexpr char32_t kFirstStandIn = 0x100;
constexpr int kStandIns = 68;  // bytes that do not print

constexpr bool Prints(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> letter{};
  std::array<uint8_t, kStandIns> stand_in{};  // the byte of U+0100 + index
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  int next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (Prints(byte)) {
      alphabet.letter[byte] = static_cast<char32_t>(byte);
    } else {
      alphabet.stand_in[next] = static_cast<uint8_t>(byte);
      alphabet.letter[byte] = kFirstStandIn + next++;
    }
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string BytesToByteLevel(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char byte : bytes) AppendUtf8(kAlphabet.letter[static_cast<uint8_t>(byte)], &text);
  return text;
}

std::optional<std::string> ByteLevelToBytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.code_point < 256 && Prints(static_cast<int>(step.code_point))) {
      bytes.push_back(static_cast<char>(step.code_point));
    } else if (step.code_point >= kFirstStandIn && step.code_point < kFirstStandIn + kStandIns) {
      bytes.push_back(static_cast<char>(kAlphabet.stand_in[step.code_point - kFirstStandIn]));
    } else {
      return std::nullopt;
    }
    text.remove_prefix(step.size);
  }
  return bytes;
}

}  // namespace lorc
