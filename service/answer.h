// From generated tokens to the text and tokens that a client gets.
//
// Text comes as soon as no stop string and no unfinished character can change it; a token comes
// with its text. An end or stop token has no text and comes last.
//
// One call's object: not for several threads at once.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "lorc/v1/generation.pb.h"
#include "runtime/tokenizer/tokenizer.h"
#include "scheduler/request.h"
#include "service/text_stream/text_stream.h"

namespace lorc {

class Answer {
 public:
  // Before `min_tokens` tokens a stop string is text. `tokenizer` outlives the answer.
  Answer(const Tokenizer* tokenizer, TextStream text, int32_t min_tokens, bool with_logprobs);

  // The next token. Ignored after a stop string.
  void Add(const GeneratedToken& token);

  // No token follows: what was held back is certain. A stop string closes an answer too.
  void Close();
  bool is_closed() const { return is_closed_; }

  // Moves what is certain and not yet taken to the end of these. False: there was nothing.
  bool Take(std::string* text, google::protobuf::RepeatedPtrField<v1::GeneratedToken>* tokens);

  // The stop string that ended the answer, and how many tokens it took to complete it.
  struct Stop {
    int32_t index = 0;
    int32_t generated_tokens = 0;
  };
  const std::optional<Stop>& stop() const { return stop_; }

 private:
  v1::GeneratedToken ToProto(const GeneratedToken& token) const;
  void Fill(const TokenLogprob& from, v1::TokenLogprob* to) const;

  const Tokenizer* tokenizer_;
  TextStream stream_;
  const int32_t min_tokens_;
  const bool with_logprobs_;
  int32_t num_added_ = 0;
  std::string text_;                        // certain, not taken
  std::deque<v1::GeneratedToken> tokens_;   // not taken
  int64_t num_taken_ = 0;                   // tokens
  std::optional<v1::GeneratedToken> last_;  // an end or stop token
  bool is_closed_ = false;
  std::optional<Stop> stop_;
};

// Bytes that are no UTF-8 become U+FFFD.
std::string ToValidUtf8(std::string_view bytes);

v1::FinishReason ToProto(FinishReason finish);

}  // namespace lorc
