#include "runtime/weights/gguf.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/weights/byte_cursor.h"
#include "runtime/weights/checked_math.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
// Far above what real files have: the largest models have some thousand tensors, under a hundred
// keys and some hundred thousand tokens and merges.
constexpr uint64_t kMaxValues = uint64_t{1} << 16;
constexpr uint64_t kMaxTensors = uint64_t{1} << 17;
constexpr uint64_t kMaxArrayElements = uint64_t{1} << 24;
constexpr size_t kMaxKeyBytes = 65535;  // the format's limit
constexpr size_t kMaxTensorNameBytes = 256;
constexpr int kMaxArrayDepth = 4;
constexpr int64_t kMaxAlignment = 65536;

// Bytes of one value of a type that has a fixed size; 0 for strings and arrays.
uint64_t FixedBytes(GgufValueType type) {
  switch (type) {
    case GgufValueType::kUint8:
    case GgufValueType::kInt8:
    case GgufValueType::kBool:
      return 1;
    case GgufValueType::kUint16:
    case GgufValueType::kInt16:
      return 2;
    case GgufValueType::kUint32:
    case GgufValueType::kInt32:
    case GgufValueType::kFloat32:
      return 4;
    case GgufValueType::kUint64:
    case GgufValueType::kInt64:
    case GgufValueType::kFloat64:
      return 8;
    case GgufValueType::kString:
    case GgufValueType::kArray:
      return 0;
  }
  return 0;
}

bool IsKnown(uint32_t type) { return type <= static_cast<uint32_t>(GgufValueType::kFloat64); }

std::optional<StoredType> ToStoredType(uint32_t type_id) {
  switch (type_id) {
    case 0:
      return StoredType::kF32;
    case 1:
      return StoredType::kF16;
    case 2:
      return StoredType::kQ4_0;
    case 3:
      return StoredType::kQ4_1;
    case 8:
      return StoredType::kQ8_0;
    case 30:
      return StoredType::kBf16;
    default:
      return std::nullopt;
  }
}

}  // namespace

class Gguf::Parser {
 public:
  Parser(std::span<const std::byte> bytes, Gguf* gguf)
      : bytes_(bytes), cursor_(bytes), gguf_(gguf) {}

  absl::Status Run() {
    LORC_RETURN_IF_ERROR(ReadHeader());
    for (uint64_t i = 0; i < value_count_; ++i) LORC_RETURN_IF_ERROR(ReadKeyValue());
    LORC_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < tensor_count_; ++i) LORC_RETURN_IF_ERROR(ReadTensorInfo());
    return PlaceTensors();
  }

 private:
  template <typename... Args>
  absl::Status Invalid(const Args&... args) const {
    return absl::InvalidArgumentError(absl::StrCat(Printable(gguf_->name_), ": ", args...));
  }

  absl::Status Truncated(const std::string& what) const {
    return Invalid("the file ends inside ", what, " (byte ", cursor_.position(), " of ",
                   bytes_.size(), "); it is incomplete or damaged, fetch it again");
  }

  absl::Status ReadHeader() {
    uint32_t magic = 0;
    uint32_t version = 0;
    if (!cursor_.Read(&magic) || magic != kMagic)
      return Invalid("not a GGUF file: it does not start with \"GGUF\"");
    if (!cursor_.Read(&version)) return Truncated("the header");
    if (version != 2 && version != 3) {
      const bool swapped = version != 0 && (version & 0xffffu) == 0;
      return absl::UnimplementedError(absl::StrCat(
          Printable(gguf_->name_), ": ",
          swapped ? std::string("a big-endian GGUF file; only little-endian ones can be read")
                  : absl::StrCat("GGUF version ", version, "; versions 2 and 3 can be read"),
          ". Convert the model again with a current converter"));
    }
    if (!cursor_.Read(&tensor_count_) || !cursor_.Read(&value_count_))
      return Truncated("the header");
    if (tensor_count_ > kMaxTensors)
      return Invalid("claims ", tensor_count_, " tensors; at most ", kMaxTensors, " are read");
    if (value_count_ > kMaxValues)
      return Invalid("claims ", value_count_, " metadata keys; at most ", kMaxValues, " are read");
    return absl::OkStatus();
  }

  absl::Status ReadKeyValue() {
    std::string_view key;
    if (!cursor_.ReadString(&key)) return Truncated("a metadata key");
    if (key.empty() || key.size() > kMaxKeyBytes)
      return Invalid("a metadata key of ", key.size(), " bytes; 1 to ", kMaxKeyBytes,
                     " are allowed");
    uint32_t type = 0;
    if (!cursor_.Read(&type)) return Truncated(absl::StrCat("the type of key ", Printable(key)));
    GgufValue value;
    LORC_RETURN_IF_ERROR(ReadValue(key, type, 0, &value));
    if (!gguf_->values_.try_emplace(std::string(key), value).second)
      return Invalid("metadata key ", Printable(key), " stands there twice");
    return absl::OkStatus();
  }

  // Checks one value of the given type at the cursor, moves past it and describes it in `value`.
  absl::Status ReadValue(std::string_view key, uint32_t type, int depth, GgufValue* value) {
    if (!IsKnown(type))
      return Invalid("metadata key ", Printable(key), " has value type ", type,
                     "; types 0 to 12 are known");
    value->type = static_cast<GgufValueType>(type);
    if (value->type == GgufValueType::kArray) return ReadArray(key, depth, value);
    return ReadElements(key, value->type, 1, depth, &value->bytes);
  }

  absl::Status ReadArray(std::string_view key, int depth, GgufValue* value) {
    if (depth >= kMaxArrayDepth)
      return Invalid("metadata key ", Printable(key), " nests arrays more than ", kMaxArrayDepth,
                     " deep");
    uint32_t element_type = 0;
    uint64_t count = 0;
    if (!cursor_.Read(&element_type) || !cursor_.Read(&count))
      return Truncated(absl::StrCat("the array of key ", Printable(key)));
    if (!IsKnown(element_type))
      return Invalid("metadata key ", Printable(key), " is an array of type ", element_type,
                     "; types 0 to 12 are known");
    if (count > kMaxArrayElements)
      return Invalid("metadata key ", Printable(key), " claims an array of ", count,
                     " elements; at most ", kMaxArrayElements, " are read");
    value->element_type = static_cast<GgufValueType>(element_type);
    value->count = static_cast<int64_t>(count);
    return ReadElements(key, value->element_type, count, depth + 1, &value->bytes);
  }

  absl::Status ReadElements(std::string_view key, GgufValueType type, uint64_t count, int depth,
                            std::span<const std::byte>* elements) {
    const auto begin = static_cast<size_t>(cursor_.position());
    const auto truncated = [&] {
      return Truncated(absl::StrCat("the value of key ", Printable(key)));
    };
    if (type == GgufValueType::kString) {
      std::string_view text;
      for (uint64_t i = 0; i < count; ++i)
        if (!cursor_.ReadString(&text)) return truncated();
    } else if (type == GgufValueType::kArray) {
      GgufValue inner;
      for (uint64_t i = 0; i < count; ++i) LORC_RETURN_IF_ERROR(ReadArray(key, depth, &inner));
    } else {
      // count <= 2^24, so the product stays small.
      std::span<const std::byte> raw;
      if (!cursor_.ReadBytes(count * FixedBytes(type), &raw)) return truncated();
      if (type == GgufValueType::kBool)
        for (const std::byte flag : raw)
          if (flag > std::byte{1})
            return Invalid("metadata key ", Printable(key), " holds a bool of value ",
                           std::to_integer<int>(flag), "; 0 or 1 is allowed");
    }
    *elements = bytes_.subspan(begin, static_cast<size_t>(cursor_.position()) - begin);
    return absl::OkStatus();
  }

  absl::Status ReadAlignment() {
    const GgufValue* value = gguf_->FindValue("general.alignment");
    if (value == nullptr) return absl::OkStatus();
    const std::optional<int64_t> alignment = value->AsInteger();
    if (!alignment || *alignment < 8 || *alignment > kMaxAlignment ||
        !std::has_single_bit(static_cast<uint64_t>(*alignment)))
      return Invalid("general.alignment is ",
                     alignment ? absl::StrCat(*alignment) : std::string("not an integer"),
                     "; a power of two from 8 to ", kMaxAlignment, " is allowed");
    alignment_ = *alignment;
    return absl::OkStatus();
  }

  absl::Status ReadTensorInfo() {
    std::string_view name;
    if (!cursor_.ReadString(&name)) return Truncated("a tensor's name");
    if (name.empty() || name.size() > kMaxTensorNameBytes)
      return Invalid("a tensor name of ", name.size(), " bytes; 1 to ", kMaxTensorNameBytes,
                     " are allowed");
    GgufTensor tensor;
    tensor.name = name;
    const std::string what = absl::StrCat("the description of tensor ", Printable(name));
    uint32_t rank = 0;
    if (!cursor_.Read(&rank)) return Truncated(what);
    if (rank < 1 || rank > tensor.extents.size())
      return Invalid("tensor ", Printable(name), " has ", rank, " dimensions; 1 to 4 are allowed");
    tensor.rank = static_cast<int32_t>(rank);
    std::optional<int64_t> elements = 1;
    for (uint32_t i = 0; i < rank; ++i) {
      if (!cursor_.Read(&tensor.extents[i])) return Truncated(what);
      if (tensor.extents[i] < 1)
        return Invalid("tensor ", Printable(name), " has extent ", tensor.extents[i],
                       " in dimension ", i, "; at least 1 is needed");
      elements = CheckedMultiply(*elements, tensor.extents[i]);
      if (!elements)
        return Invalid("the extents of tensor ", Printable(name), " multiply past 2^63 elements");
    }
    uint64_t offset = 0;
    if (!cursor_.Read(&tensor.type_id) || !cursor_.Read(&offset)) return Truncated(what);
    tensor.type = ToStoredType(tensor.type_id);
    std::optional<int64_t> size_bytes = 0;
    if (tensor.type) {
      // Blocks must not straddle rows.
      size_bytes = tensor.extents[0] % BlockElements(*tensor.type) == 0
                       ? StoredBytes(*tensor.type, *elements)
                       : std::nullopt;
      if (!size_bytes)
        return Invalid("rows of tensor ", Printable(name), " hold ", tensor.extents[0],
                       " elements, which ", Name(*tensor.type), " cannot store in blocks of ",
                       BlockElements(*tensor.type));
    }
    if (!gguf_->tensor_index_.try_emplace(tensor.name, gguf_->tensors_.size()).second)
      return Invalid("tensor ", Printable(name), " stands there twice");
    gguf_->tensors_.push_back(std::move(tensor));
    extents_.push_back({offset, static_cast<uint64_t>(*size_bytes), gguf_->tensors_.size() - 1});
    return absl::OkStatus();
  }

  absl::Status PlaceTensors() {
    const auto alignment = static_cast<uint64_t>(alignment_);
    const auto header_end = static_cast<uint64_t>(cursor_.position());
    const uint64_t data_begin = (header_end + alignment - 1) / alignment * alignment;
    const uint64_t data_size = bytes_.size() > data_begin ? bytes_.size() - data_begin : 0;
    for (const Extent& extent : extents_) {
      GgufTensor& tensor = gguf_->tensors_[extent.tensor];
      if (extent.offset % alignment != 0)
        return Invalid("tensor ", Printable(tensor.name), " begins at offset ", extent.offset,
                       ", which is no multiple of the alignment ", alignment);
      if (extent.offset > data_size || extent.size_bytes > data_size - extent.offset)
        return Invalid("tensor ", Printable(tensor.name), " needs ", extent.size_bytes,
                       " bytes at offset ", extent.offset, " of the tensor data, which has ",
                       data_size, " bytes; the file is incomplete or damaged, fetch it again");
      if (extent.size_bytes > 0)
        tensor.data = bytes_.subspan(data_begin + extent.offset, extent.size_bytes);
    }
    return CheckOverlap();
  }

  absl::Status CheckOverlap() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) {
      return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
    });
    for (size_t i = 1; i < extents_.size(); ++i) {
      const Extent& before = extents_[i - 1];
      if (before.offset + before.size_bytes > extents_[i].offset)
        return Invalid("tensors ", Printable(gguf_->tensors_[before.tensor].name), " and ",
                       Printable(gguf_->tensors_[extents_[i].tensor].name), " overlap in the file");
    }
    return absl::OkStatus();
  }

  struct Extent {
    uint64_t offset = 0;
    uint64_t size_bytes = 0;  // 0 for types that are not supported
    size_t tensor = 0;
  };

  std::span<const std::byte> bytes_;
  ByteCursor cursor_;
  Gguf* gguf_;
  uint64_t tensor_count_ = 0;
  uint64_t value_count_ = 0;
  int64_t alignment_ = 32;  // the format's default
  std::vector<Extent> extents_;
};

absl::StatusOr<Gguf> Gguf::Open(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  LORC_ASSIGN_OR_RETURN(Gguf gguf, Parse(file.bytes(), path));
  gguf.file_ = std::move(file);
  return gguf;
}

absl::StatusOr<Gguf> Gguf::Parse(std::span<const std::byte> bytes, const std::string& name) {
  Gguf gguf;
  gguf.name_ = name;
  LORC_RETURN_IF_ERROR(Parser(bytes, &gguf).Run());
  return gguf;
}

const GgufValue* Gguf::FindValue(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const GgufTensor* Gguf::FindTensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

void Gguf::ReleasePages() const {
  if (file_) file_->Release();
}

}  // namespace lorc
