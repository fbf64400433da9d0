// JSON files of a Hugging Face folder: parsing within limits, and an object's members as fields.
#pragma once

#include <string>
#include <string_view>
#include <nlohmann/json_fwd.hpp>

#include "absl/status/status.h"
#include "runtime/weights/fields.h"

namespace lorc {

// At most 128 MiB of text, 4 million values and 64 levels: what the largest tokenizers need several
// times over, and some hundred MB of memory at worst. `source` stands in error messages.
absl::Status ParseJson(std::string_view text, const std::string& source, nlohmann::json* value);

// As ParseJson, and the outermost value is an object.
absl::Status ParseJsonObject(std::string_view text, const std::string& source,
                             nlohmann::json* value);

// A member that is null counts as absent, as it does for transformers.
class JsonFields final : public FieldReader {
 public:
  // `object` is an object and outlives this.
  JsonFields(const nlohmann::json& object, const std::string& source);

  const nlohmann::json* Find(const std::string& key) const;  // nullptr: absent

 private:
  Found LookUp(const std::string& key, int64_t* value) const override;
  Found LookUp(const std::string& key, double* value) const override;
  Found LookUp(const std::string& key, bool* value) const override;
  Found LookUp(const std::string& key, std::string* value) const override;

  const nlohmann::json& object_;
};

}  // namespace lorc
