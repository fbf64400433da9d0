// Short ways to parse and render in tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "service/chat_template/chat_template.h"

namespace lorc {

// 3 July 2024, 09:46:40 UTC.
inline constexpr std::time_t kTestTime = 1720000000;

inline ChatTemplate Parse(const std::string& source) {
  auto chat_template = ChatTemplate::Parse(source, "<s>", "</s>", [] { return kTestTime; });
  EXPECT_TRUE(chat_template.ok()) << chat_template.status() << "\n" << source;
  return *std::move(chat_template);
}

inline std::string Rendered(const ChatTemplate& chat_template,
                            const std::vector<ChatMessage>& messages, bool add_generation_prompt) {
  const auto text = chat_template.Render(messages, add_generation_prompt);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "(none)";
}

// What parsing, or else rendering this chat, fails with; OK if neither does.
inline absl::Status Failure(const std::string& source,
                            const std::vector<ChatMessage>& messages = {{"user", "Hi"}}) {
  const auto chat_template = ChatTemplate::Parse(source, "<s>", "</s>");
  if (!chat_template.ok()) return chat_template.status();
  return chat_template->Render(messages, true).status();
}

}  // namespace lorc
