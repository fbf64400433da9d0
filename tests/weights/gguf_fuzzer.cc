// libFuzzer: any bytes as a GGUF file, through the parser and through the whole checkpoint reader.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf.h"
#include "runtime/weights/tensor_role.h"

namespace lorc {
namespace {

void Parse(std::span<const std::byte> bytes) {
  const absl::StatusOr<Gguf> gguf = Gguf::Parse(bytes, "fuzz.gguf");
  if (!gguf.ok()) return;
  for (const auto& [key, value] : gguf->values()) {
    (void)value.AsNumber();
    (void)value.AsBool();
    (void)value.AsString();
    (void)value.AsIntegers();
    (void)value.AsStrings();
  }
  for (const GgufTensor& tensor : gguf->tensors()) LORC_CHECK(gguf->FindTensor(tensor.name));
}

// The checkpoint reader wants a path: a file in memory has one.
void Open(std::span<const std::byte> bytes) {
  static const int file = memfd_create("fuzz", MFD_CLOEXEC);
  static const std::string path = absl::StrCat("/proc/self/fd/", file);
  LORC_CHECK(ftruncate(file, 0) == 0);
  LORC_CHECK(pwrite(file, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  const auto checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return;
  std::vector<float> values;
  const ModelConfig& config = (*checkpoint)->config();
  for (const TensorRole role : kAllTensorRoles) {
    const int32_t layer = IsPerLayer(role) ? config.num_layers - 1 : 0;
    const TensorShape shape = (*checkpoint)->Shape(role, layer);
    values.resize(static_cast<size_t>(shape.columns));
    for (int64_t row = 0; row < shape.rows; ++row)
      (*checkpoint)->ReadRows(role, layer, row, row + 1, values.data());
  }
  (void)(*checkpoint)->ReadVocabulary();
  (void)(*checkpoint)->Fingerprint();
}

}  // namespace
}  // namespace lorc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  lorc::Parse(bytes);
  lorc::Open(bytes);
  return 0;
}
