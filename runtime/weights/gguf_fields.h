// A GGUF file's metadata as fields.
#pragma once

#include <string>

#include "runtime/weights/fields.h"
#include "runtime/weights/gguf.h"

namespace lorc {

class GgufFields final : public FieldReader {
 public:
  explicit GgufFields(const Gguf& gguf);  // `gguf` outlives it

 private:
  Found LookUp(const std::string& key, int64_t* value) const override;
  Found LookUp(const std::string& key, double* value) const override;
  Found LookUp(const std::string& key, bool* value) const override;
  Found LookUp(const std::string& key, std::string* value) const override;

  template <typename T, typename Convert>
  Found LookUpAs(const std::string& key, T* value, Convert convert) const;

  const Gguf& gguf_;
};

}  // namespace lorc
