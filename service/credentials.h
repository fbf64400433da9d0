// TLS of the gRPC port.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "service/server_config.h"

namespace lorc {

// Without certificate and key: plain text. The files are tried out, so that errors say which file
// is wrong and how.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerConfig& config);

}  // namespace lorc
