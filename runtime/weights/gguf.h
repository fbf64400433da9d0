// Reader of one GGUF file, version 2 or 3, little-endian (ggml docs/gguf.md): metadata key-values
// and tensor infos. Everything is checked before it is used; values and tensor data stay in the
// file's bytes and are read where they lie.
//
// Threads: const methods may be called from any thread at once.
#pragma once

#include <array>
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
#include "runtime/weights/stored_type.h"

namespace lorc {

// Numbers as they stand in the file.
enum class GgufValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// One metadata value, already checked to lie within the file. The As... methods return nothing
// where the value has another type or, for integers, leaves int64.
struct GgufValue {
  GgufValueType type = GgufValueType::kUint8;
  GgufValueType element_type = GgufValueType::kUint8;  // of an array
  int64_t count = 1;                                   // elements of an array
  std::span<const std::byte> bytes;                    // without type and count

  std::optional<int64_t> AsInteger() const;  // any integer type
  std::optional<double> AsNumber() const;    // floats and integers
  std::optional<bool> AsBool() const;
  std::optional<std::string_view> AsString() const;        // any bytes, not only UTF-8
  std::optional<std::vector<int64_t>> AsIntegers() const;  // an array of any integer type
  std::optional<std::vector<std::string_view>> AsStrings() const;
};

struct GgufTensor {
  std::string name;
  uint32_t type_id = 0;                        // ggml's number
  std::optional<StoredType> type;              // nothing: a type that this program cannot read
  int32_t rank = 1;                            // 1..4
  std::array<int64_t, 4> extents{1, 1, 1, 1};  // each >= 1; [0] is the contiguous one
  std::span<const std::byte> data;             // empty where `type` is
};

// "Q4_K", or "type 123" for a number that ggml does not have.
std::string GgmlTypeName(uint32_t type_id);

class Gguf {
 public:
  // Maps the file and keeps it mapped.
  static absl::StatusOr<Gguf> Open(const std::string& path);

  // Over bytes that the caller keeps alive. `name` stands in error messages.
  static absl::StatusOr<Gguf> Parse(std::span<const std::byte> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in the file's order

  const GgufValue* FindValue(std::string_view key) const;     // nullptr: none
  const GgufTensor* FindTensor(std::string_view name) const;  // nullptr: none
  void ReleasePages() const;

 private:
  class Parser;

  std::string name_;
  std::optional<MappedFile> file_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace lorc
