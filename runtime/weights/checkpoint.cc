#include "runtime/weights/checkpoint.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "runtime/weights/gguf_checkpoint.h"
#include "runtime/weights/hf_checkpoint.h"
#include "runtime/weights/printable.h"

namespace lorc {

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the model ", Printable(path)));
  if (S_ISDIR(info.st_mode)) return OpenHfCheckpoint(path);
  if (path.ends_with(".safetensors") || path.ends_with(".json"))
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(path), " is one file of a Hugging Face model; name its folder"));
  return OpenGgufCheckpoint(path);
}

}  // namespace lorc
