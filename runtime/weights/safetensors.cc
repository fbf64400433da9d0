#include "runtime/weights/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/safetensors_header.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's limit

using Entry = SafetensorsHeader::Entry;

// The format allows neither gaps nor overlap, nor bytes that belong to no tensor.
absl::Status CheckPlaces(const std::vector<Entry>& sorted, int64_t data_bytes) {
  int64_t expected = 0;
  for (const Entry& entry : sorted) {
    if (entry.end > data_bytes)
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Printable(entry.name), " ends at byte ", entry.end, " of the data, which has ",
          data_bytes, " bytes; the file is incomplete or damaged, fetch it again"));
    if (entry.begin != expected)
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Printable(entry.name), " begins at byte ", entry.begin, " of the data where ",
          expected, " was expected: tensors ", entry.begin < expected ? "overlap" : "leave a gap"));
    expected = entry.end;
  }
  if (expected != data_bytes)
    return absl::InvalidArgumentError(absl::StrCat("the tensors fill ", expected, " bytes, but ",
                                                   data_bytes, " bytes follow the header"));
  return absl::OkStatus();
}

}  // namespace

int64_t ByteSize(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kBool:
    case SafetensorsType::kU8:
    case SafetensorsType::kI8:
    case SafetensorsType::kF8E5M2:
    case SafetensorsType::kF8E4M3:
      return 1;
    case SafetensorsType::kI16:
    case SafetensorsType::kU16:
    case SafetensorsType::kF16:
    case SafetensorsType::kBf16:
      return 2;
    case SafetensorsType::kI32:
    case SafetensorsType::kU32:
    case SafetensorsType::kF32:
      return 4;
    case SafetensorsType::kI64:
    case SafetensorsType::kU64:
    case SafetensorsType::kF64:
      return 8;
  }
  return 0;
}

const char* Name(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kBool:
      return "BOOL";
    case SafetensorsType::kU8:
      return "U8";
    case SafetensorsType::kI8:
      return "I8";
    case SafetensorsType::kF8E5M2:
      return "F8_E5M2";
    case SafetensorsType::kF8E4M3:
      return "F8_E4M3";
    case SafetensorsType::kI16:
      return "I16";
    case SafetensorsType::kU16:
      return "U16";
    case SafetensorsType::kF16:
      return "F16";
    case SafetensorsType::kBf16:
      return "BF16";
    case SafetensorsType::kI32:
      return "I32";
    case SafetensorsType::kU32:
      return "U32";
    case SafetensorsType::kF32:
      return "F32";
    case SafetensorsType::kI64:
      return "I64";
    case SafetensorsType::kU64:
      return "U64";
    case SafetensorsType::kF64:
      return "F64";
  }
  return "";
}

absl::StatusOr<Safetensors> Safetensors::Open(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  LORC_ASSIGN_OR_RETURN(Safetensors safetensors, Parse(file.bytes(), path));
  safetensors.file_ = std::move(file);
  return safetensors;
}

absl::StatusOr<Safetensors> Safetensors::Parse(std::span<const std::byte> bytes,
                                               const std::string& name) {
  const auto annotate = [&](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat(Printable(name), ": ", status.message()));
  };
  if (bytes.size() < kLengthBytes)
    return annotate(absl::InvalidArgumentError(
        absl::StrCat("no safetensors file: it has ", bytes.size(), " bytes, the header alone 8")));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes)
    return annotate(absl::InvalidArgumentError(absl::StrCat(
        "claims a header of ", header_bytes, " bytes in a file of ", bytes.size(), " (limit ",
        kMaxHeaderBytes, "); it is no safetensors file, incomplete or damaged")));
  const std::span<const std::byte> json = bytes.subspan(kLengthBytes, header_bytes);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + header_bytes);
  absl::StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(
      std::string_view(reinterpret_cast<const char*>(json.data()), json.size()));
  if (!header.ok()) return annotate(header.status());
  std::vector<Entry>& entries = header->entries;
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  if (absl::Status status = CheckPlaces(entries, static_cast<int64_t>(data.size())); !status.ok())
    return annotate(status);

  Safetensors result;
  result.name_ = name;
  result.metadata_ = std::move(header->metadata);
  for (Entry& entry : entries) {
    result.index_.emplace(entry.name, result.tensors_.size());
    result.tensors_.push_back({std::move(entry.name), entry.type, std::move(entry.shape),
                               data.subspan(static_cast<size_t>(entry.begin),
                                            static_cast<size_t>(entry.end - entry.begin))});
  }
  return result;
}

const SafetensorsTensor* Safetensors::Find(std::string_view tensor) const {
  const auto it = index_.find(tensor);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void Safetensors::ReleasePages() const {
  if (file_) file_->Release();
}

}  // namespace lorc
