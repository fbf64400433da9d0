// GPT-2's byte-level alphabet: every byte has one printable character, so that the tokens of a
// byte-level vocabulary can be written as text.
//
// Bytes that print (33..126, 161..172, 174..255) are the character of the same number; the others,
// in order, are U+0100 onwards (a space is "Ġ").
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lorc {

// Any bytes, written in the alphabet.
std::string BytesToByteLevel(std::string_view bytes);

// The bytes that `text` stands for; nothing if a character of it is not in the alphabet.
std::optional<std::string> ByteLevelToBytes(std::string_view text);

}  // namespace lorc
