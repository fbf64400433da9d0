// A GenerateRequest checked field by field and made into what the engine takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lorc/v1/generation.pb.h"
#include "scheduler/request.h"
#include "service/server_config.h"
#include "service/serving.h"
#include "service/text_stream/text_stream.h"

namespace lorc {

struct PreparedRequest {
  Request request;  // without id and deadline
  TextStream text;
  bool with_logprobs = false;
};

// INVALID_ARGUMENT names field, value and range; a request that can never fit also bytes needed
// and budget. FAILED_PRECONDITION: a chat without a template.
absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request,
                                               const Serving& serving);

// The id has at most so many bytes.
inline constexpr size_t kMaxRequestIdBytes = 128;
absl::Status CheckRequestId(const std::string& request_id);

// What unset knobs mean, as clients see it.
v1::SamplingParams DefaultSampling(const ServerConfig& config);
v1::StopParams DefaultStop(const ServerConfig& config, int32_t max_sequence_tokens);

}  // namespace lorc
