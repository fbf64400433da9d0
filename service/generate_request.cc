#include "service/generate_request.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"
#include "service/prompt.h"
#include "service/rpc_status.h"

namespace lorc {
namespace {

constexpr uint32_t kMaxLogprobs = 20;
constexpr int kMaxStopTokens = 64;

// Which ends of a range belong to it.
enum class Ends { kClosed, kOpenLow, kOpenHigh };

struct Knob {
  const char* field;
  float least;
  float most;
  Ends ends = Ends::kClosed;
};

// NaN is in no range.
absl::Status CheckKnob(const Knob& knob, float value) {
  const bool low = knob.ends == Ends::kOpenLow ? value > knob.least : value >= knob.least;
  const bool high = knob.ends == Ends::kOpenHigh ? value < knob.most : value <= knob.most;
  if (low && high) return absl::OkStatus();
  return FieldError(knob.field, absl::StrCat(value),
                    absl::StrCat(knob.ends == Ends::kOpenLow ? "(" : "[", knob.least, ", ",
                                 knob.most, knob.ends == Ends::kOpenHigh ? ")" : "]"));
}

uint64_t RandomSeed() {
  thread_local std::mt19937_64 generator{(uint64_t{std::random_device{}()} << 32) ^
                                         std::random_device{}()};
  return generator();
}

absl::StatusOr<SamplingParams> Sampling(const v1::SamplingParams& from, const ServerConfig& config,
                                        int32_t vocabulary_size) {
  const v1::SamplingParams defaults = DefaultSampling(config);
  const auto pick = [](bool is_set, float value, float fallback) {
    return is_set ? value : fallback;
  };
  SamplingParams to;
  to.temperature = pick(from.has_temperature(), from.temperature(), defaults.temperature());
  to.top_p = pick(from.has_top_p(), from.top_p(), defaults.top_p());
  to.min_p = pick(from.has_min_p(), from.min_p(), defaults.min_p());
  to.repetition_penalty =
      pick(from.has_repetition_penalty(), from.repetition_penalty(), defaults.repetition_penalty());
  to.presence_penalty =
      pick(from.has_presence_penalty(), from.presence_penalty(), defaults.presence_penalty());
  to.frequency_penalty =
      pick(from.has_frequency_penalty(), from.frequency_penalty(), defaults.frequency_penalty());
  LORC_RETURN_IF_ERROR(CheckKnob({"sampling.temperature", 0, 2}, to.temperature));
  LORC_RETURN_IF_ERROR(CheckKnob({"sampling.top_p", 0, 1, Ends::kOpenLow}, to.top_p));
  LORC_RETURN_IF_ERROR(CheckKnob({"sampling.min_p", 0, 1, Ends::kOpenHigh}, to.min_p));
  LORC_RETURN_IF_ERROR(
      CheckKnob({"sampling.repetition_penalty", 0, 2, Ends::kOpenLow}, to.repetition_penalty));
  LORC_RETURN_IF_ERROR(CheckKnob({"sampling.presence_penalty", -2, 2}, to.presence_penalty));
  LORC_RETURN_IF_ERROR(CheckKnob({"sampling.frequency_penalty", -2, 2}, to.frequency_penalty));
  // More than all is all.
  const uint32_t top_k = from.has_top_k() ? from.top_k() : defaults.top_k();
  to.top_k = static_cast<int32_t>(std::min<uint32_t>(top_k, vocabulary_size));
  to.seed = from.has_seed() ? from.seed() : RandomSeed();
  return to;
}

absl::StatusOr<std::vector<TokenId>> Prompt(const v1::GenerateRequest& request,
                                            const ModelFiles& files, int32_t max_tokens) {
  switch (request.input_case()) {
    case v1::GenerateRequest::kText:
      return PromptFromText(request.text(), request.parse_special(), files, max_tokens);
    case v1::GenerateRequest::kTokens:
      return PromptFromIds(request.tokens().ids(), "tokens.ids", files);
    case v1::GenerateRequest::kChat:
      return PromptFromChat(request.chat(), files, max_tokens);
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("input is not set, expected text, tokens or chat");
}

// "1000 tokens take 4096 bytes of cache, the budget is 1024".
std::string CacheArithmetic(const CacheSize& size, int64_t tokens) {
  const KvGeometry& geometry = size.geometry;
  const int64_t bytes = geometry.BytesPromised(tokens);
  const int64_t budget = geometry.num_latent_blocks * geometry.latent_block_bytes +
                         geometry.num_exact_blocks * geometry.exact_block_bytes;
  return absl::StrCat(tokens, " tokens need ", bytes, " bytes of cache, the budget is ", budget);
}

absl::Status SetLengths(const v1::StopParams& stop, const ServerConfig& config,
                        const CacheSize& size, Request* to) {
  const auto prompt = static_cast<int64_t>(to->prompt.size());
  const int64_t left = size.max_sequence_tokens - prompt;
  if (left < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", prompt, " tokens, expected 1..", size.max_sequence_tokens - 1,
        ", one less than a request may have in all; ", CacheArithmetic(size, prompt + 1)));
  }
  if (!stop.has_max_tokens()) {
    to->max_tokens = static_cast<int32_t>(std::min<int64_t>(config.default_max_tokens, left));
  } else if (stop.max_tokens() < 1 || stop.max_tokens() > left) {
    return FieldError(
        "stop.max_tokens", absl::StrCat(stop.max_tokens()),
        absl::StrCat("1..", left, ": prompt of ", prompt, " tokens, at most ",
                     size.max_sequence_tokens, " in all; ",
                     CacheArithmetic(size, prompt + std::max(1u, stop.max_tokens()))));
  } else {
    to->max_tokens = static_cast<int32_t>(stop.max_tokens());
  }
  if (stop.min_tokens() > static_cast<uint32_t>(to->max_tokens)) {
    return FieldError("stop.min_tokens", absl::StrCat(stop.min_tokens()),
                      absl::StrCat("0..max_tokens = 0..", to->max_tokens));
  }
  to->min_tokens = static_cast<int32_t>(stop.min_tokens());
  return absl::OkStatus();
}

absl::StatusOr<TextStream> Text(const v1::StopParams& stop) {
  const int count = stop.stop_strings_size();
  if (count > static_cast<int>(TextStream::kMaxStopStrings)) {
    return FieldError("stop.stop_strings", absl::StrCat("a list of ", count),
                      absl::StrCat("at most ", TextStream::kMaxStopStrings));
  }
  for (int i = 0; i < count; ++i) {
    const size_t bytes = stop.stop_strings(i).size();
    if (bytes >= 1 && bytes <= TextStream::kMaxStopStringBytes) continue;
    return FieldError(absl::StrCat("stop.stop_strings[", i, "]"),
                      absl::StrCat(bytes, " bytes long"),
                      absl::StrCat("1..", TextStream::kMaxStopStringBytes, " bytes"));
  }
  return TextStream::Create({stop.stop_strings().begin(), stop.stop_strings().end()});
}

}  // namespace

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.size() <= kMaxRequestIdBytes) return absl::OkStatus();
  return FieldError("request_id", absl::StrCat(request_id.size(), " bytes long"),
                    absl::StrCat("at most ", kMaxRequestIdBytes, " bytes"));
}

v1::SamplingParams DefaultSampling(const ServerConfig& config) {
  v1::SamplingParams sampling;
  sampling.set_temperature(config.default_temperature);
  sampling.set_top_k(config.default_top_k);
  sampling.set_top_p(config.default_top_p);
  sampling.set_min_p(config.default_min_p);
  sampling.set_repetition_penalty(1);
  sampling.set_presence_penalty(0);
  sampling.set_frequency_penalty(0);
  return sampling;
}

v1::StopParams DefaultStop(const ServerConfig& config, int32_t max_sequence_tokens) {
  v1::StopParams stop;
  stop.set_max_tokens(std::min(config.default_max_tokens, max_sequence_tokens - 1));
  stop.set_min_tokens(0);
  stop.set_ignore_eos(false);
  return stop;
}

absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request,
                                               const Serving& serving) {
  const ModelFiles& files = *serving.files;
  LORC_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (request.has_logprobs() && request.logprobs() > kMaxLogprobs) {
    return FieldError("logprobs", absl::StrCat(request.logprobs()),
                      absl::StrCat("0..", kMaxLogprobs));
  }
  if (request.priority() < kMinPriority || request.priority() > kMaxPriority) {
    return FieldError("priority", absl::StrCat(request.priority()),
                      absl::StrCat(kMinPriority, "..", kMaxPriority));
  }
  if (request.stop().stop_token_ids_size() > kMaxStopTokens) {
    return FieldError("stop.stop_token_ids",
                      absl::StrCat("a list of ", request.stop().stop_token_ids_size()),
                      absl::StrCat("at most ", kMaxStopTokens));
  }
  LORC_ASSIGN_OR_RETURN(TextStream text, Text(request.stop()));
  PreparedRequest prepared{{}, std::move(text), request.has_logprobs()};
  Request& to = prepared.request;
  LORC_ASSIGN_OR_RETURN(
      to.stop_ids, PromptFromIds(request.stop().stop_token_ids(), "stop.stop_token_ids", files));
  LORC_ASSIGN_OR_RETURN(
      to.sampling, Sampling(request.sampling(), *serving.config, files.config().vocabulary_size));
  if (request.has_logprobs()) {
    to.sampling.num_logprobs = static_cast<int32_t>(
        std::min<uint32_t>(request.logprobs(), files.config().vocabulary_size));
  }
  LORC_ASSIGN_OR_RETURN(to.prompt, Prompt(request, files, serving.size->max_sequence_tokens));
  if (to.prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty, expected at least one token");
  }
  LORC_RETURN_IF_ERROR(SetLengths(request.stop(), *serving.config, *serving.size, &to));
  to.eos_ids = files.tokenizer->vocabulary().eos;
  to.ignore_eos = request.stop().ignore_eos();
  to.priority = request.priority();
  return prepared;
}

}  // namespace lorc
