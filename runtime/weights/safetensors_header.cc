#include "runtime/weights/safetensors_header.h"

#include <array>
#include <optional>
#include <set>
#include <utility>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/weights/checked_math.h"
#include "runtime/weights/printable.h"

namespace lorc {
namespace {

// Far above what real files have; they bound the memory that a header of 100 MB can ask for.
constexpr size_t kMaxTensors = size_t{1} << 17;
constexpr size_t kMaxMetadata = size_t{1} << 16;
constexpr size_t kMaxRank = 8;

constexpr std::array<SafetensorsType, 15> kTypes = {
    SafetensorsType::kBool,   SafetensorsType::kU8,     SafetensorsType::kI8,
    SafetensorsType::kF8E5M2, SafetensorsType::kF8E4M3, SafetensorsType::kI16,
    SafetensorsType::kU16,    SafetensorsType::kF16,    SafetensorsType::kBf16,
    SafetensorsType::kI32,    SafetensorsType::kU32,    SafetensorsType::kF32,
    SafetensorsType::kI64,    SafetensorsType::kU64,    SafetensorsType::kF64};

std::optional<SafetensorsType> TypeFromName(std::string_view name) {
  for (const SafetensorsType type : kTypes)
    if (name == Name(type)) return type;
  return std::nullopt;
}

// Takes the parser's events one by one instead of building a tree, so that memory stays in
// proportion to the header, nesting cannot go deep and repeated names are seen.
class HeaderHandler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsHeader header;
  absl::Status status;

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a bool"); }
  bool number_float(number_float_t, const string_t& text) override {
    return Unexpected(absl::StrCat("the number ", Printable(text)));
  }
  bool binary(binary_t&) override { return Unexpected("binary data"); }

  bool number_integer(number_integer_t value) override { return Number(value); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return Unexpected(absl::StrCat("the number ", value));
    return Number(static_cast<int64_t>(value));
  }

  bool string(string_t& text) override {
    if (state_ == State::kMetadata) {
      if (header.metadata.size() >= kMaxMetadata) return Fail("has too many metadata entries");
      if (!header.metadata.try_emplace(key_, std::move(text)).second)
        return Fail(absl::StrCat("names metadata ", Printable(key_), " twice"));
      return true;
    }
    if (state_ != State::kType) return Unexpected(absl::StrCat("the text ", Printable(text)));
    const std::optional<SafetensorsType> type = TypeFromName(text);
    if (!type) {
      status =
          absl::UnimplementedError(absl::StrCat("tensor ", Printable(entry_.name), " has dtype ",
                                                Printable(text), ", which cannot be read"));
      return false;
    }
    entry_.type = *type;
    state_ = State::kTensor;
    return true;
  }

  bool start_object(std::size_t) override {
    if (state_ == State::kStart) {
      state_ = State::kRoot;
    } else if (state_ == State::kMetadataStart) {
      state_ = State::kMetadata;
    } else if (state_ == State::kTensorStart) {
      state_ = State::kTensor;
    } else {
      return Unexpected("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    if (state_ == State::kMetadata) {
      key_ = std::move(name);
      return true;
    }
    if (state_ == State::kTensor) return TensorField(name);
    if (name == "__metadata__") {
      if (seen_metadata_) return Fail("has __metadata__ twice");
      seen_metadata_ = true;
      state_ = State::kMetadataStart;
      return true;
    }
    if (header.entries.size() >= kMaxTensors) return Fail("has too many tensors");
    if (!names_.insert(name).second)
      return Fail(absl::StrCat("names tensor ", Printable(name), " twice"));
    entry_ = {};
    entry_.name = std::move(name);
    seen_type_ = seen_shape_ = seen_offsets_ = false;
    state_ = State::kTensorStart;
    return true;
  }

  bool end_object() override {
    if (state_ == State::kMetadata) {
      state_ = State::kRoot;
      return true;
    }
    if (state_ == State::kTensor) return FinishTensor();
    state_ = State::kDone;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kShapeStart) {
      state_ = State::kShape;
    } else if (state_ == State::kOffsetsStart) {
      state_ = State::kOffsets;
    } else {
      return Unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::kOffsets && offsets_.size() != 2)
      return Fail(absl::StrCat("tensor ", Printable(entry_.name), " has ", offsets_.size(),
                               " data_offsets; 2 are needed"));
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("is not valid JSON at byte ", position));
  }

 private:
  enum class State {
    kStart,          // nothing read yet
    kRoot,           // in the outer object
    kMetadataStart,  // after the key __metadata__
    kMetadata,       // in it
    kTensorStart,    // after a tensor's name
    kTensor,         // in its object
    kType,           // after the key dtype
    kShapeStart,     // after the key shape
    kShape,          // in its array
    kOffsetsStart,   // after the key data_offsets
    kOffsets,        // in its array
    kDone,
  };

  bool Fail(const std::string& what) {
    status = absl::InvalidArgumentError(absl::StrCat("the header ", what));
    return false;
  }

  bool Unexpected(const std::string& what) {
    const bool in_tensor = state_ != State::kStart && state_ != State::kRoot &&
                           state_ != State::kMetadataStart && state_ != State::kMetadata;
    return Fail(absl::StrCat("has ", what, in_tensor ? " in tensor " : " outside tensors",
                             in_tensor ? Printable(entry_.name) : std::string(),
                             " where the format does not allow it"));
  }

  bool Number(int64_t value) {
    if (value < 0) return Unexpected(absl::StrCat("the number ", value));
    if (state_ == State::kShape) {
      if (entry_.shape.size() >= kMaxRank)
        return Fail(absl::StrCat("gives tensor ", Printable(entry_.name), " more than ", kMaxRank,
                                 " dimensions"));
      entry_.shape.push_back(value);
      return true;
    }
    if (state_ == State::kOffsets && offsets_.size() < 2) {
      offsets_.push_back(value);
      return true;
    }
    return Unexpected(absl::StrCat("the number ", value));
  }

  bool TensorField(std::string_view field) {
    bool* seen = nullptr;
    if (field == "dtype") {
      seen = &seen_type_;
      state_ = State::kType;
    } else if (field == "shape") {
      seen = &seen_shape_;
      state_ = State::kShapeStart;
    } else if (field == "data_offsets") {
      seen = &seen_offsets_;
      offsets_.clear();
      state_ = State::kOffsetsStart;
    }
    if (seen == nullptr || *seen)
      return Fail(absl::StrCat("has field ", Printable(field), seen == nullptr ? "" : " twice",
                               " in tensor ", Printable(entry_.name),
                               "; dtype, shape and data_offsets are needed, once each"));
    *seen = true;
    return true;
  }

  bool FinishTensor() {
    if (!seen_type_ || !seen_shape_ || !seen_offsets_)
      return Fail(
          absl::StrCat("lacks dtype, shape or data_offsets of tensor ", Printable(entry_.name)));
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    std::optional<int64_t> size_bytes = ByteSize(entry_.type);
    for (const int64_t extent : entry_.shape)
      if (size_bytes) size_bytes = CheckedMultiply(*size_bytes, extent);
    if (!size_bytes)
      return Fail(
          absl::StrCat("gives tensor ", Printable(entry_.name), " a shape past 2^63 bytes"));
    if (entry_.end < entry_.begin || entry_.end - entry_.begin != *size_bytes)
      return Fail(absl::StrCat("gives tensor ", Printable(entry_.name), " the offsets [",
                               entry_.begin, ", ", entry_.end, "), but its dtype and shape need ",
                               *size_bytes, " bytes"));
    header.entries.push_back(std::move(entry_));
    state_ = State::kRoot;
    return true;
  }

  State state_ = State::kStart;
  std::string key_;
  SafetensorsHeader::Entry entry_;
  std::vector<int64_t> offsets_;
  std::set<std::string, std::less<>> names_;
  bool seen_metadata_ = false;
  bool seen_type_ = false;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
};

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json) {
  HeaderHandler handler;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &handler)) {
    if (handler.status.ok()) return absl::InvalidArgumentError("the header is not valid JSON");
    return handler.status;
  }
  return std::move(handler.header);
}

}  // namespace lorc
