#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/gguf.h"

namespace lorc {

std::string GgmlTypeName(uint32_t type_id) {
  // ggml.h, enum ggml_type; numbers that are missing here were given up by ggml.
  static constexpr std::array<std::pair<uint32_t, const char*>, 34> kNames = {{
      {0, "F32"},     {1, "F16"},      {2, "Q4_0"},   {3, "Q4_1"},    {6, "Q5_0"},
      {7, "Q5_1"},    {8, "Q8_0"},     {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},
      {12, "Q4_K"},   {13, "Q5_K"},    {14, "Q6_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {30, "BF16"},   {34, "TQ1_0"},
      {35, "TQ2_0"},  {39, "MXFP4"},   {40, "NVFP4"}, {41, "Q1_0"},
  }};
  for (const auto& [id, name] : kNames)
    if (id == type_id) return name;
  return absl::StrCat("type ", type_id);
}

}  // namespace lorc
