#include "runtime/weights/utf8.h"

#include <cstddef>
#include <cstdint>

namespace lorc {
namespace {

// Bytes of the character at the front, 0 where it is not well formed.
size_t CharacterBytes(std::string_view bytes) {
  const auto lead = static_cast<uint8_t>(bytes[0]);
  if (lead < 0x80) return 1;
  const size_t length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (length == 0 || bytes.size() < length) return 0;
  // The second byte's range is narrower after some leads.
  const uint8_t lowest = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t highest = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  const auto second = static_cast<uint8_t>(bytes[1]);
  if (second < lowest || second > highest) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((static_cast<uint8_t>(bytes[i]) & 0xc0) != 0x80) return 0;
  return length;
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t length = CharacterBytes(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

}  // namespace lorc
