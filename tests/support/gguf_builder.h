// Puts a GGUF file together in memory, right or wrong as the test wants it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/weights/gguf.h"

namespace lorc::test {

class GgufBuilder {
 public:
  struct Tensor {
    std::string name;
    uint32_t type_id = 0;
    std::vector<int64_t> extents;  // contiguous extent first
    std::string data;
  };

  uint32_t version = 3;
  int64_t alignment = 32;  // of tensor data; general.alignment is the caller's to set

  // A key that is there already keeps its place and gets the new value.
  void SetUint32(const std::string& key, uint32_t value);
  void SetFloat32(const std::string& key, float value);
  void SetBool(const std::string& key, bool value);
  void SetString(const std::string& key, std::string_view value);
  void SetStrings(const std::string& key, const std::vector<std::string>& values);
  void SetInt32s(const std::string& key, std::span<const int32_t> values);
  // Any value: its type and its bytes as they stand in the file.
  void SetRaw(const std::string& key, uint32_t type, std::string bytes);
  void Remove(const std::string& key);

  void AddTensor(Tensor tensor);
  Tensor& FindTensor(const std::string& name);  // aborts where there is none
  void RemoveTensor(const std::string& name);

  std::string Build() const;

 private:
  struct Value {
    std::string key;
    uint32_t type = 0;
    std::string bytes;
  };

  std::vector<Value> values_;
  std::vector<Tensor> tensors_;
};

// Little-endian bytes of numbers, and GGUF's strings (length and text).
std::string Bytes(uint32_t value);
std::string Bytes(uint64_t value);
std::string GgufString(std::string_view text);

uint32_t GgmlTypeId(StoredType type);

}  // namespace lorc::test
