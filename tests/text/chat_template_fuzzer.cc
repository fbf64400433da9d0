// Parses arbitrary bytes as a template and renders a few chats with it, one made from the same
// bytes.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "service/chat_template/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view data(reinterpret_cast<const char*>(bytes), size);
  // What comes after a zero byte is the content of messages.
  const size_t end = std::min(data.find('\0'), data.size());
  const std::string source(data.substr(0, end));
  const std::string content(data.substr(std::min(end + 1, data.size())));
  const auto chat_template =
      lorc::ChatTemplate::Parse(source, "<s>", "</s>", [] { return std::time_t{1720000000}; });
  if (!chat_template.ok()) return 0;
  const lorc::ChatMessage chats[] = {
      {"system", "Be brief."}, {"user", "What is 2+2?"}, {"assistant", content}, {"user", content}};
  for (const size_t length : {0, 1, 4}) {
    const auto text = chat_template->Render(std::span(chats, length), length != 1);
    if (text.ok() && text->size() > (size_t{1} << 24)) std::abort();
  }
  return 0;
}
