#include "service/answer.h"

#include <utility>

#include "service/text_stream/utf8_assembler.h"

namespace lorc {

std::string ToValidUtf8(std::string_view bytes) {
  std::string text;
  Utf8Assembler assembler;
  assembler.Feed(bytes, &text);
  assembler.Finish(&text);
  return text;
}

v1::FinishReason ToProto(FinishReason finish) {
  switch (finish) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kEos:
      return v1::FINISH_REASON_EOS;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kStopToken:
      return v1::FINISH_REASON_STOP_TOKEN;
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP_STRING;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

Answer::Answer(const Tokenizer* tokenizer, TextStream text, int32_t min_tokens, bool with_logprobs)
    : tokenizer_(tokenizer),
      stream_(std::move(text)),
      min_tokens_(min_tokens),
      with_logprobs_(with_logprobs) {}

void Answer::Add(const GeneratedToken& token) {
  if (stop_) return;
  ++num_added_;
  if (token.ends_request) {
    last_ = ToProto(token);
    return;
  }
  tokens_.push_back(ToProto(token));
  const std::string_view bytes =
      tokenizer_->IsControl(token.token) ? std::string_view() : tokenizer_->TokenBytes(token.token);
  text_ += stream_.Feed(bytes, num_added_ >= min_tokens_);
  if (stream_.stop()) {
    stop_ = Stop{*stream_.stop(), num_added_};
    is_closed_ = true;
  }
}

void Answer::Close() {
  if (is_closed_) return;
  is_closed_ = true;
  text_ += stream_.Finish();
  // An unfinished character may complete a stop string as U+FFFD.
  if (stream_.stop()) stop_ = Stop{*stream_.stop(), num_added_};
}

bool Answer::Take(std::string* text,
                  google::protobuf::RepeatedPtrField<v1::GeneratedToken>* tokens) {
  const int64_t num_certain = stream_.tokens_returned();
  bool any = !text_.empty();
  text->append(text_);
  text_.clear();
  for (; num_taken_ < num_certain; ++num_taken_, any = true) {
    *tokens->Add() = std::move(tokens_.front());
    tokens_.pop_front();
  }
  if (is_closed_ && !stop_ && last_) {
    *tokens->Add() = *std::move(last_);
    last_.reset();
    any = true;
  }
  return any;
}

v1::GeneratedToken Answer::ToProto(const GeneratedToken& token) const {
  v1::GeneratedToken proto;
  proto.set_id(token.token);
  if (with_logprobs_) {
    Fill(token.chosen, proto.mutable_chosen());
    for (const TokenLogprob& top : token.top) Fill(top, proto.add_top());
  }
  return proto;
}

void Answer::Fill(const TokenLogprob& from, v1::TokenLogprob* to) const {
  to->set_id(from.token);
  to->set_text(ToValidUtf8(tokenizer_->TokenBytes(from.token)));
  to->set_logprob(from.logprob);
}

}  // namespace lorc
