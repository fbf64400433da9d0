// libFuzzer: any bytes as a safetensors file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/base/check.h"
#include "runtime/weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file =
      lorc::Safetensors::Parse(std::as_bytes(std::span(data, size)), "fuzz.safetensors");
  if (!file.ok()) return 0;
  unsigned sum = 0;
  for (const lorc::SafetensorsTensor& tensor : file->tensors()) {
    LORC_CHECK(file->Find(tensor.name) == &tensor);
    int64_t size_bytes = lorc::ByteSize(tensor.type);
    for (const int64_t extent : tensor.shape) size_bytes *= extent;
    LORC_CHECK_EQ(size_bytes, static_cast<int64_t>(tensor.data.size()));
    for (const std::byte value : tensor.data) sum += std::to_integer<unsigned>(value);
  }
  static volatile unsigned sink = 0;
  sink = sink + sum;  // keeps the reads
  return 0;
}
