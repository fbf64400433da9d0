// Certificates for tests of TLS.
#pragma once

#include <memory>
#include <string>

namespace lorc::test {

struct PemPair {
  std::string certificate;
  std::string key;
};

class CertificateAuthority {
 public:
  explicit CertificateAuthority(const std::string& name);
  ~CertificateAuthority();

  const std::string& certificate() const { return certificate_; }  // PEM

  // P-256, for an hour, for the name and for 127.0.0.1.
  PemPair Issue(const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string certificate_;
};

}  // namespace lorc::test
