#include "service/credentials.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

absl::StatusOr<std::string> ReadPem(const char* flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return absl::NotFoundError(absl::StrCat(flag, ": can't read ", path));
  }
  return text.str();
}

absl::Status OpenSslError(const char* flag, const std::string& path, const char* what) {
  char reason[256] = "unknown error";
  if (const unsigned long error = ERR_peek_last_error();
      error != 0) {  // NOLINT(google-runtime-int)
    ERR_error_string_n(error, reason, sizeof(reason));
  }
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", path, " ", what, ": ", reason));
}

// gRPC would only say that the port could not be opened.
absl::Status TryFiles(const ServerConfig& config) {
  ERR_clear_error();
  const std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context(SSL_CTX_new(TLS_server_method()),
                                                             SSL_CTX_free);
  if (context == nullptr) return OpenSslError("--tls-cert", config.tls_cert, "can't be tried out");
  if (SSL_CTX_use_certificate_chain_file(context.get(), config.tls_cert.c_str()) != 1) {
    return OpenSslError("--tls-cert", config.tls_cert, "is no PEM certificate chain");
  }
  if (SSL_CTX_use_PrivateKey_file(context.get(), config.tls_key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return OpenSslError("--tls-key", config.tls_key,
                        "is no PEM private key, or not that of the certificate");
  }
  if (!config.tls_client_ca.empty() &&
      SSL_CTX_load_verify_locations(context.get(), config.tls_client_ca.c_str(), nullptr) != 1) {
    return OpenSslError("--tls-client-ca", config.tls_client_ca, "is no PEM certificate");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const ServerConfig& config) {
  if (config.tls_cert.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(
      config.tls_client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                   : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  LORC_ASSIGN_OR_RETURN(pair.cert_chain, ReadPem("--tls-cert", config.tls_cert));
  LORC_ASSIGN_OR_RETURN(pair.private_key, ReadPem("--tls-key", config.tls_key));
  if (!config.tls_client_ca.empty()) {
    LORC_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem("--tls-client-ca", config.tls_client_ca));
  }
  LORC_RETURN_IF_ERROR(TryFiles(config));
  options.pem_key_cert_pairs.push_back(pair);
  return grpc::SslServerCredentials(options);
}

}  // namespace lorc
