#include "runtime/weights/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "runtime/weights/atomic_file.h"
#include "runtime/weights/checked_math.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using TensorList = std::vector<const SafetensorsTensor*>;

TensorList WiderTypesFirst(std::span<const SafetensorsTensor> tensors) {
  TensorList ordered;
  for (const SafetensorsTensor& tensor : tensors) ordered.push_back(&tensor);
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const SafetensorsTensor* a, const SafetensorsTensor* b) {
                     return ByteSize(a->type) > ByteSize(b->type);
                   });
  return ordered;
}

absl::Status CheckTensor(const SafetensorsTensor& tensor) {
  const std::string what = absl::StrCat("tensor ", Printable(tensor.name));
  if (tensor.name == "__metadata__")
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has the name under which the format keeps metadata"));
  std::optional<int64_t> needed = ByteSize(tensor.type);
  for (const int64_t extent : tensor.shape)
    if (needed) needed = extent < 0 ? std::nullopt : CheckedMultiply(*needed, extent);
  if (needed && *needed == static_cast<int64_t>(tensor.data.size())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " comes with ", tensor.data.size(), " bytes, but its shape needs ",
                   needed ? absl::StrCat(*needed) : std::string("another number")));
}

// The header's length and JSON, padded with spaces so that the data begins at a multiple of 8.
absl::StatusOr<std::string> MakeHeader(const TensorList& tensors,
                                       const SafetensorsMetadata& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    nlohmann::ordered_json& entries = header["__metadata__"];
    for (const auto& [key, value] : metadata) entries[key] = value;
  }
  int64_t offset = 0;
  for (const SafetensorsTensor* tensor : tensors) {
    LORC_RETURN_IF_ERROR(CheckTensor(*tensor));
    const int64_t end = offset + static_cast<int64_t>(tensor->data.size());
    if (header.contains(tensor->name))
      return absl::InvalidArgumentError(
          absl::StrCat("two tensors are named ", Printable(tensor->name)));
    header[tensor->name] = {
        {"dtype", Name(tensor->type)}, {"shape", tensor->shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("names or metadata are not UTF-8: ", error.what()));
  }
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + json;
}

// Parses the written file as any reader would and compares it with what was to be written.
absl::Status Verify(const std::string& path, const TensorList& tensors,
                    const SafetensorsMetadata& metadata) {
  LORC_ASSIGN_OR_RETURN(const Safetensors written, Safetensors::Open(path));
  bool same = written.metadata() == metadata && written.tensors().size() == tensors.size();
  for (size_t i = 0; same && i < tensors.size(); ++i) {
    const SafetensorsTensor& wanted = *tensors[i];
    const SafetensorsTensor* found = written.Find(wanted.name);
    same = found != nullptr && found->type == wanted.type && found->shape == wanted.shape &&
           std::ranges::equal(found->data, wanted.data);
  }
  if (same) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("what was read back from ", Printable(path),
                   " is not what was written: the disk or its file system is faulty"));
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, std::span<const SafetensorsTensor> tensors,
                              const SafetensorsMetadata& metadata) {
  const TensorList ordered = WiderTypesFirst(tensors);
  LORC_ASSIGN_OR_RETURN(const std::string header, MakeHeader(ordered, metadata));
  LORC_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  LORC_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(header))));
  for (const SafetensorsTensor* tensor : ordered) LORC_RETURN_IF_ERROR(file.Write(tensor->data));
  LORC_RETURN_IF_ERROR(file.Sync());
  LORC_RETURN_IF_ERROR(Verify(file.temporary_path(), ordered, metadata));
  return file.Commit();
}

}  // namespace lorc
