#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/tokenizer/pre_tokenizer.h"

#include <pcre2.h>

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/tokenizer/utf8.h"

namespace lorc {
namespace {

// Unicode's White_Space, as the libraries that trained these vocabularies have it. PCRE2's own \s
// holds U+180E besides.
#define LORC_SPACE "\\t-\\r\\x{85}\\p{Z}"
#define LORC_GPT2                                                                             \
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" LORC_SPACE "\\p{L}\\p{N}]+|[" LORC_SPACE \
  "]+(?![^" LORC_SPACE "])|[" LORC_SPACE "]+"
#define LORC_LLAMA3                                                                        \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" LORC_SPACE \
  "\\p{L}\\p{N}]+[\\r\\n]*|[" LORC_SPACE "]*[\\r\\n]+|[" LORC_SPACE "]+(?![^" LORC_SPACE   \
  "])|[" LORC_SPACE "]+"

struct Entry {
  const char* name;
  std::array<const char*, 2> patterns;  // in order; nullptr: none
};

constexpr Entry kTable[] = {
    {"gpt2", {LORC_GPT2, nullptr}},
    {"smollm", {"\\p{N}", LORC_GPT2}},
    {"llama3", {LORC_LLAMA3, nullptr}},
};

#undef LORC_LLAMA3
#undef LORC_GPT2
#undef LORC_SPACE

// Steps of one match: backtracking over a run of spaces costs a step for each, so that a limit on
// steps must grow with the text.
constexpr uint32_t kMatchLimitBase = 10'000'000;
constexpr uint32_t kMatchLimitMax = 1'000'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;  // only where there is no JIT

}  // namespace

class PreTokenizer::Pattern {
 public:
  ~Pattern() { pcre2_code_free(code_); }
  Pattern() = default;
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  absl::Status Compile(const char* source) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    if (code_ == nullptr) {
      return absl::InternalError(absl::StrCat("pattern ", source, ": PCRE2 error ", error,
                                              " at offset ", static_cast<int64_t>(offset)));
    }
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // else PCRE2 interprets: slower, same matches
    return absl::OkStatus();
  }

  const pcre2_code* code() const { return code_; }

 private:
  pcre2_code* code_ = nullptr;
};

// What one thread needs besides the patterns.
class PreTokenizer::Search {
 public:
  explicit Search(size_t text_size)
      : context_(pcre2_match_context_create(nullptr)), data_(pcre2_match_data_create(1, nullptr)) {
    if (context_ == nullptr) return;
    const uint64_t limit = kMatchLimitBase + 16 * static_cast<uint64_t>(text_size);
    pcre2_set_match_limit(context_,
                          limit < kMatchLimitMax ? static_cast<uint32_t>(limit) : kMatchLimitMax);
    pcre2_set_heap_limit(context_, kHeapLimitKib);
  }
  ~Search() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
  }
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // Finds the first match at or after `from` in valid UTF-8; false if there is none or a limit was
  // reached.
  bool Next(const Pattern& pattern, std::string_view text, size_t from, size_t* begin,
            size_t* end) const {
    if (context_ == nullptr || data_ == nullptr) return false;
    const int found = pcre2_match(pattern.code(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), from, PCRE2_NO_UTF_CHECK, data_, context_);
    if (found < 0) return false;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_);
    *begin = range[0];
    *end = range[1];
    return *end > *begin;
  }

 private:
  pcre2_match_context* context_;
  pcre2_match_data* data_;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(const std::string& name) {
  std::string known;
  for (const Entry& entry : kTable) {
    if (name != entry.name) {
      absl::StrAppend(&known, known.empty() ? "" : ", ", entry.name);
      continue;
    }
    std::unique_ptr<PreTokenizer> result(new PreTokenizer());
    for (const char* source : entry.patterns) {
      if (source == nullptr) continue;
      auto pattern = std::make_unique<Pattern>();
      if (absl::Status status = pattern->Compile(source); !status.ok()) return status;
      result->stages_.push_back(std::move(pattern));
    }
    return result;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown pre-tokenizer \"", name, "\"; known: ", known));
}

void PreTokenizer::Split(std::string_view text, std::vector<std::string_view>* pieces) const {
  const Search search(text.size());
  while (!text.empty()) {
    const size_t valid = static_cast<size_t>(ValidUtf8Prefix(text));
    if (valid > 0) SplitValid(search, text.substr(0, valid), 0, pieces);
    size_t end = valid;
    while (end < text.size()) {
      const Utf8Step step = NextUtf8(text.substr(end));
      if (step.kind == Utf8Kind::kValid) break;
      end += step.size;
    }
    if (end > valid) pieces->push_back(text.substr(valid, end - valid));
    text.remove_prefix(end);
  }
}

void PreTokenizer::SplitValid(const Search& search, std::string_view text, size_t stage,
                              std::vector<std::string_view>* pieces) const {
  if (stage == stages_.size()) {
    pieces->push_back(text);
    return;
  }
  const auto cut = [&](size_t begin, size_t end) {
    if (begin < end) SplitValid(search, text.substr(begin, end - begin), stage + 1, pieces);
  };
  size_t position = 0;
  size_t begin = 0;
  size_t end = 0;
  while (position < text.size() && search.Next(*stages_[stage], text, position, &begin, &end)) {
    cut(position, begin);
    cut(begin, end);
    position = end;
  }
  cut(position, text.size());
}

}  // namespace lorc
