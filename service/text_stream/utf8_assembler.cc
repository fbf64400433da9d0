#include "service/text_stream/utf8_assembler.h"

#include "runtime/tokenizer/utf8.h"

namespace lorc {

void Utf8Assembler::Feed(std::string_view bytes, std::string* text) {
  std::string joined;
  if (!unfinished_.empty()) {
    joined = unfinished_;
    joined.append(bytes);
    bytes = joined;
    unfinished_.clear();
  }
  while (!bytes.empty()) {
    const Utf8Step step = NextUtf8(bytes);
    if (step.kind == Utf8Kind::kIncomplete) {
      unfinished_.assign(bytes);
      return;
    }
    text->append(step.kind == Utf8Kind::kValid ? bytes.substr(0, step.size) : kReplacementUtf8);
    bytes.remove_prefix(step.size);
  }
}

void Utf8Assembler::Finish(std::string* text) {
  if (!unfinished_.empty()) text->append(kReplacementUtf8);
  unfinished_.clear();
}

}  // namespace lorc
