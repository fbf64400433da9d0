#include "runtime/tokenizer/byte_level.h"

#include <gtest/gtest.h>

#include <set>

namespace lorc {
namespace {

TEST(ByteLevelTest, EveryByteHasItsOwnLetter) {
  std::set<std::string> letters;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    const std::string letter = BytesToByteLevel(bytes);
    letters.insert(letter);
    EXPECT_EQ(ByteLevelToBytes(letter), bytes) << byte;
  }
  EXPECT_EQ(letters.size(), 256u);
}

TEST(ByteLevelTest, LettersAreGpt2s) {
  EXPECT_EQ(BytesToByteLevel(" the"), "Ġthe");
  EXPECT_EQ(BytesToByteLevel("\n"), "Ċ");
  EXPECT_EQ(BytesToByteLevel("\t"), "ĉ");
  EXPECT_EQ(BytesToByteLevel(std::string_view("\0", 1)), "Ā");
  EXPECT_EQ(BytesToByteLevel("\x7F"), "ġ");
  EXPECT_EQ(BytesToByteLevel("\xA0"), "ł");
  EXPECT_EQ(BytesToByteLevel("\xAD"), "Ń");
  EXPECT_EQ(BytesToByteLevel("é"), "Ã©");
  EXPECT_EQ(BytesToByteLevel("\xFF"), "ÿ");
}

TEST(ByteLevelTest, OtherCharactersAreRefused) {
  EXPECT_EQ(ByteLevelToBytes("a b"), std::nullopt);
  EXPECT_EQ(ByteLevelToBytes("ń"), std::nullopt);  // U+0144, one past the last letter
  EXPECT_EQ(ByteLevelToBytes("\xFF"), std::nullopt);
  EXPECT_EQ(ByteLevelToBytes("Ã\xC2"), std::nullopt);
  EXPECT_EQ(ByteLevelToBytes(""), "");
}

}  // namespace
}  // namespace lorc
