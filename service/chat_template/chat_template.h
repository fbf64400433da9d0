// Renders a chat with a model's chat template, as transformers' apply_chat_template does.
//
// Templates are Jinja. This is an interpreter of the part that chat templates use (README.md in
// this folder); what it lacks is reported when the template is parsed where that is possible.
// Templates and chats may be hostile: time, memory and recursion are bounded (limits.h).
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace lorc {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", ...
  std::string content;  // UTF-8
};

// Constant after construction: Render may be called from any thread at once.
class ChatTemplate {
 public:
  // Seconds since 1970, for templates that ask for the date (which they get in UTC).
  using Clock = std::function<std::time_t()>;

  // `bos_token` and `eos_token` are the texts that the template sees under these names; empty:
  // undefined. `clock` may be called from any thread; nullptr: the system's.
  //
  // INVALID_ARGUMENT if the source is no template, UNIMPLEMENTED if it uses a construct that is not
  // supported; both name the line.
  static absl::StatusOr<ChatTemplate> Parse(const std::string& source, const std::string& bos_token,
                                            const std::string& eos_token, Clock clock = nullptr);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `add_generation_prompt`: the text ends with what begins the assistant's turn.
  //
  // INVALID_ARGUMENT with the template's own message if it raises one (roles in an order it does
  // not know, say), or if rendering fails or costs too much; UNIMPLEMENTED as above.
  absl::StatusOr<std::string> Render(std::span<const ChatMessage> messages,
                                     bool add_generation_prompt) const;

 private:
  struct Parsed;
  explicit ChatTemplate(std::unique_ptr<const Parsed> parsed);
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace lorc
