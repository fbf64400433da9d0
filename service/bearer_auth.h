// Bearer tokens: `authorization: Bearer TOKEN` in a call's metadata.
#pragma once

#include <grpcpp/support/string_ref.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lorc {

// Constant after construction: any thread.
class BearerAuth {
 public:
  // Accepts every call.
  BearerAuth() = default;

  // One token a line; white space around it, empty lines and lines that start with # do not count.
  // Errors: no such file, a token that a header can't hold, no token at all.
  static absl::StatusOr<BearerAuth> FromFile(const std::string& path);

  bool required() const { return !tokens_.empty(); }

  // UNAUTHENTICATED says whether the token is missing or unknown. Takes as long for every unknown
  // token of a length.
  absl::Status Check(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) const;

 private:
  std::vector<std::string> tokens_;
};

}  // namespace lorc
