// The safetensors files of a Hugging Face folder, one or many, as one set of tensors.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/weights/safetensors.h"

namespace lorc {

class HfTensors {
 public:
  // model.safetensors where it is there, else the shards that model.safetensors.index.json names.
  static absl::StatusOr<HfTensors> Open(const std::string& folder);

  const SafetensorsTensor* Find(std::string_view name) const;  // nullptr: none
  std::vector<std::string> Names() const;                      // sorted
  void ReleasePages() const;

 private:
  std::vector<Safetensors> files_;
  // Where a tensor is: the file's place in files_. Pointers into a vector that still grows would
  // not last.
  std::map<std::string, size_t, std::less<>> file_of_;
};

// The weight_map of an index file: tensor name to file name. File names are plain names of the same
// folder. `source` stands in error messages.
absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view json,
                                                                   const std::string& source);

}  // namespace lorc
