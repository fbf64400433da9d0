// Feeds arbitrary bytes in arbitrary parts: the text must be the same in one part, and valid UTF-8.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/tokenizer/utf8.h"
#include "service/text_stream/text_stream.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::string_view data(reinterpret_cast<const char*>(bytes), size);
  if (data.empty()) return 0;
  const int num_stops = static_cast<uint8_t>(data[0]) % 18;
  data.remove_prefix(1);
  std::vector<std::string> stops;
  for (int i = 0; i < num_stops && !data.empty(); ++i) {
    const size_t length = std::min<size_t>(static_cast<uint8_t>(data[0]) % 8, data.size() - 1);
    stops.emplace_back(data.substr(1, length));
    data.remove_prefix(1 + length);
  }
  auto whole = lorc::TextStream::Create(stops);
  if (!whole.ok()) return 0;
  auto parts = lorc::TextStream::Create(stops);

  std::string all;
  std::string text;
  int64_t tokens = 0;
  while (!data.empty()) {
    const size_t length = std::min<size_t>(static_cast<uint8_t>(data[0]) % 6, data.size() - 1);
    const std::string_view token = data.substr(1, length);
    data.remove_prefix(1 + length);
    all += token;
    text += parts->Feed(token);
    Require(static_cast<size_t>(lorc::ValidUtf8Prefix(text)) == text.size());
    Require(parts->tokens_returned() <= ++tokens);
  }
  text += parts->Finish();
  std::string expected = whole->Feed(all);
  expected += whole->Finish();
  Require(text == expected);
  Require(parts->stop() == whole->stop());
  Require(parts->stop() || parts->tokens_returned() == tokens);
  for (const std::string& stop : stops) Require(text.find(stop) == std::string::npos);
  return 0;
}
