// Named values of a checkpoint's configuration, read with type and range checks. The two formats
// differ in where a value comes from; what is asked of it and how a refusal reads is the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace lorc {

class FieldReader {
 public:
  virtual ~FieldReader() = default;

  // A value that is absent is the fallback, or an error where there is none. Ranges are inclusive.
  absl::StatusOr<int32_t> Integer(const std::string& key, int32_t lowest, int32_t highest,
                                  std::optional<int32_t> fallback = {}) const;
  absl::StatusOr<double> Number(const std::string& key, double lowest, double highest,
                                std::optional<double> fallback = {}) const;
  absl::StatusOr<bool> Bool(const std::string& key, bool fallback) const;
  absl::StatusOr<std::string> String(const std::string& key, const std::string& fallback) const;
  bool Has(const std::string& key) const;

  // INVALID_ARGUMENT and UNIMPLEMENTED with the source in front.
  absl::Status Invalid(const std::string& message) const;
  absl::Status Unimplemented(const std::string& message) const;

 protected:
  enum class Found { kAbsent, kOtherType, kValue };

  // `source` stands in error messages.
  explicit FieldReader(std::string source);

 private:
  virtual Found LookUp(const std::string& key, int64_t* value) const = 0;
  virtual Found LookUp(const std::string& key, double* value) const = 0;
  virtual Found LookUp(const std::string& key, bool* value) const = 0;
  virtual Found LookUp(const std::string& key, std::string* value) const = 0;

  template <typename T>
  absl::StatusOr<std::optional<T>> Get(const std::string& key, const char* type) const;

  std::string source_;
};

}  // namespace lorc
