// Our errors as gRPC sends them.
#pragma once

#include <grpcpp/support/status.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace lorc {

// The same code; the message cut to what fits into a trailer. `retry_after_ns` > 0 adds
// google.rpc.RetryInfo to the details.
grpc::Status ToGrpcStatus(const absl::Status& status, int64_t retry_after_ns = 0);

// "expected" belongs in `range`: "sampling.top_p is 7, expected (0, 1]".
absl::Status FieldError(const std::string& field, const std::string& value,
                        const std::string& range);

}  // namespace lorc
