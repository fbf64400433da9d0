#include "tests/support/gguf_builder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "kernels/base/check.h"

namespace lorc::test {
namespace {

uint32_t Id(GgufValueType type) { return static_cast<uint32_t>(type); }

void Pad(std::string* bytes, int64_t alignment) {
  const auto step = static_cast<size_t>(alignment);
  bytes->resize((bytes->size() + step - 1) / step * step, '\0');
}

}  // namespace

std::string Bytes(uint32_t value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string Bytes(uint64_t value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string GgufString(std::string_view text) {
  return Bytes(static_cast<uint64_t>(text.size())) + std::string(text);
}

uint32_t GgmlTypeId(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return 0;
    case StoredType::kF16:
      return 1;
    case StoredType::kQ4_0:
      return 2;
    case StoredType::kQ4_1:
      return 3;
    case StoredType::kQ8_0:
      return 8;
    case StoredType::kBf16:
      return 30;
  }
  return 0;
}

void GgufBuilder::SetUint32(const std::string& key, uint32_t value) {
  SetRaw(key, Id(GgufValueType::kUint32), Bytes(value));
}

void GgufBuilder::SetFloat32(const std::string& key, float value) {
  SetRaw(key, Id(GgufValueType::kFloat32), Bytes(std::bit_cast<uint32_t>(value)));
}

void GgufBuilder::SetBool(const std::string& key, bool value) {
  SetRaw(key, Id(GgufValueType::kBool), std::string(1, value ? '\1' : '\0'));
}

void GgufBuilder::SetString(const std::string& key, std::string_view value) {
  SetRaw(key, Id(GgufValueType::kString), GgufString(value));
}

void GgufBuilder::SetStrings(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes =
      Bytes(Id(GgufValueType::kString)) + Bytes(static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) bytes += GgufString(value);
  SetRaw(key, Id(GgufValueType::kArray), std::move(bytes));
}

void GgufBuilder::SetInt32s(const std::string& key, std::span<const int32_t> values) {
  std::string bytes =
      Bytes(Id(GgufValueType::kInt32)) + Bytes(static_cast<uint64_t>(values.size()));
  for (const int32_t value : values) bytes += Bytes(static_cast<uint32_t>(value));
  SetRaw(key, Id(GgufValueType::kArray), std::move(bytes));
}

void GgufBuilder::SetRaw(const std::string& key, uint32_t type, std::string bytes) {
  for (Value& value : values_) {
    if (value.key != key) continue;
    value.type = type;
    value.bytes = std::move(bytes);
    return;
  }
  values_.push_back({key, type, std::move(bytes)});
}

void GgufBuilder::Remove(const std::string& key) {
  std::erase_if(values_, [&](const Value& value) { return value.key == key; });
}

void GgufBuilder::AddTensor(Tensor tensor) { tensors_.push_back(std::move(tensor)); }

GgufBuilder::Tensor& GgufBuilder::FindTensor(const std::string& name) {
  const auto it = std::ranges::find(tensors_, name, &Tensor::name);
  LORC_CHECK(it != tensors_.end());
  return *it;
}

void GgufBuilder::RemoveTensor(const std::string& name) {
  std::erase_if(tensors_, [&](const Tensor& tensor) { return tensor.name == name; });
}

std::string GgufBuilder::Build() const {
  std::string file = "GGUF" + Bytes(version) + Bytes(static_cast<uint64_t>(tensors_.size())) +
                     Bytes(static_cast<uint64_t>(values_.size()));
  for (const Value& value : values_)
    file += GgufString(value.key) + Bytes(value.type) + value.bytes;
  std::string data;
  for (const Tensor& tensor : tensors_) {
    file += GgufString(tensor.name) + Bytes(static_cast<uint32_t>(tensor.extents.size()));
    for (const int64_t extent : tensor.extents) file += Bytes(static_cast<uint64_t>(extent));
    file += Bytes(tensor.type_id) + Bytes(static_cast<uint64_t>(data.size()));
    data += tensor.data;
    Pad(&data, alignment);
  }
  Pad(&file, alignment);
  return file + data;
}

}  // namespace lorc::test
