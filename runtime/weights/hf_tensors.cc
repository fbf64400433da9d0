#include "runtime/weights/hf_tensors.h"

#include <utility>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/mapped_file.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

constexpr size_t kMaxShards = 4096;

bool IsPlainFileName(const std::string& name) {
  return name.find('/') == std::string::npos && name.find('\0') == std::string::npos &&
         name.ends_with(".safetensors");
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view json,
                                                                   const std::string& source) {
  const auto invalid = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(Printable(source), ": ", what));
  };
  nlohmann::json object;
  LORC_RETURN_IF_ERROR(ParseJsonObject(json, source, &object));
  const auto weight_map = object.find("weight_map");
  if (weight_map == object.end() || !weight_map->is_object() || weight_map->empty())
    return invalid("weight_map is not an object that names each tensor's file");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get_ref<const std::string&>()))
      return invalid(absl::StrCat("the file of tensor ", Printable(tensor),
                                  " is not the name of a .safetensors file in the same folder"));
    files.emplace(tensor, file.get_ref<const std::string&>());
  }
  return files;
}

absl::StatusOr<HfTensors> HfTensors::Open(const std::string& folder) {
  HfTensors result;
  absl::StatusOr<Safetensors> whole = Safetensors::Open(folder + "/model.safetensors");
  if (whole.ok()) {
    for (const SafetensorsTensor& tensor : whole->tensors()) result.file_of_[tensor.name] = 0;
    result.files_.push_back(*std::move(whole));
    return result;
  }
  if (!absl::IsNotFound(whole.status())) return whole.status();

  const std::string index_path = folder + "/model.safetensors.index.json";
  absl::StatusOr<MappedFile> index = MappedFile::Open(index_path);
  if (absl::IsNotFound(index.status()))
    return absl::NotFoundError(
        absl::StrCat(Printable(folder),
                     " holds neither model.safetensors nor model.safetensors.index.json; "
                     "save the model with save_pretrained(..., safe_serialization=True)"));
  if (!index.ok()) return index.status();
  LORC_ASSIGN_OR_RETURN(const auto weight_map, ParseShardIndex(index->text(), index_path));
  std::map<std::string, size_t> opened;
  for (const auto& [tensor, file] : weight_map) {
    const auto [place, is_new] = opened.try_emplace(file, result.files_.size());
    if (is_new) {
      if (opened.size() > kMaxShards)
        return absl::InvalidArgumentError(
            absl::StrCat(Printable(index_path), ": names more than ", kMaxShards, " files"));
      LORC_ASSIGN_OR_RETURN(Safetensors shard, Safetensors::Open(absl::StrCat(folder, "/", file)));
      result.files_.push_back(std::move(shard));
    }
    if (result.files_[place->second].Find(tensor) == nullptr)
      return absl::InvalidArgumentError(absl::StrCat(Printable(index_path), ": tensor ",
                                                     Printable(tensor), " is not in ",
                                                     Printable(file), ", where it should be"));
    result.file_of_[tensor] = place->second;
  }
  return result;
}

const SafetensorsTensor* HfTensors::Find(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? nullptr : files_[it->second].Find(name);
}

std::vector<std::string> HfTensors::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : file_of_) names.push_back(name);
  return names;
}

void HfTensors::ReleasePages() const {
  for (const Safetensors& file : files_) file.ReleasePages();
}

}  // namespace lorc
