// Reader of one safetensors file (github.com/huggingface/safetensors): an 8-byte header length, a
// JSON header and the tensors' bytes without gaps. Everything is checked before it is used; tensor
// data stays where it lies in the file.
//
// Threads: const methods may be called from any thread at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/weights/mapped_file.h"

namespace lorc {

enum class SafetensorsType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

int64_t ByteSize(SafetensorsType type);
const char* Name(SafetensorsType type);  // as the format spells it: "BF16", "F8_E4M3"

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<int64_t> shape;       // at most 8 extents, each >= 0; none: one element
  std::span<const std::byte> data;  // row-major, little-endian; need not be aligned
};

using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

class Safetensors {
 public:
  // Maps the file and keeps it mapped.
  static absl::StatusOr<Safetensors> Open(const std::string& path);

  // Over bytes that the caller keeps alive. `name` stands in error messages.
  static absl::StatusOr<Safetensors> Parse(std::span<const std::byte> bytes,
                                           const std::string& name);

  const std::string& name() const { return name_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  const std::vector<SafetensorsTensor>& tensors() const {
    return tensors_;
  }  // by place in the file

  const SafetensorsTensor* Find(std::string_view tensor) const;  // nullptr: none
  void ReleasePages() const;

 private:
  std::string name_;
  std::optional<MappedFile> file_;
  SafetensorsMetadata metadata_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace lorc
