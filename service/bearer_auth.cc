#include "service/bearer_auth.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cctype>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lorc {

absl::StatusOr<BearerAuth> BearerAuth::FromFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("can't open the token file ", path));
  BearerAuth auth;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    const std::string token(absl::StripAsciiWhitespace(line));
    if (token.empty() || token.front() == '#') continue;
    if (!std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ":", number, ": a token must be of printable ASCII characters without spaces"));
    }
    auth.tokens_.push_back(token);
  }
  if (auth.tokens_.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no token"));
  return auth;
}

absl::Status BearerAuth::Check(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) const {
  if (tokens_.empty()) return absl::OkStatus();
  const auto [begin, end] = metadata.equal_range("authorization");
  if (begin == end) {
    return absl::UnauthenticatedError("the call has no \"authorization: Bearer TOKEN\" metadata");
  }
  constexpr absl::string_view kScheme = "bearer ";
  for (auto it = begin; it != end; ++it) {
    absl::string_view value(it->second.data(), it->second.size());
    if (!absl::StartsWithIgnoreCase(value, kScheme)) continue;
    value.remove_prefix(kScheme.size());
    bool known = false;
    for (const std::string& token : tokens_) {
      known |= token.size() == value.size() &&
               CRYPTO_memcmp(token.data(), value.data(), token.size()) == 0;
    }
    if (known) return absl::OkStatus();
  }
  return absl::UnauthenticatedError("the call's bearer token is not known");
}

}  // namespace lorc
