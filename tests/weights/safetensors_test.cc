#include "runtime/weights/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::IsInvalid;
using test::IsUnimplemented;

std::string MakeFile(const std::string& header, int64_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (int64_t i = 0; i < data_bytes; ++i) bytes.push_back(static_cast<char>(i));
  return bytes;
}

// The bytes live as long as the object: tensors point into them.
struct Parsed {
  explicit Parsed(std::string file)
      : bytes(std::move(file)),
        result(Safetensors::Parse(std::as_bytes(std::span(bytes)), "x.safetensors")) {}
  std::string bytes;
  absl::StatusOr<Safetensors> result;
};

absl::StatusOr<Safetensors> Parse(const std::string& header, int64_t data_bytes) {
  return Parsed(MakeFile(header, data_bytes)).result;
}

TEST(SafetensorsTest, ReadsTensorsAndMetadata) {
  const Parsed parsed(MakeFile(R"({"__metadata__":{"format":"pt","x":"\u00e9"},)"
                               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[6,14]},)"
                               R"("a":{"data_offsets":[0,6],"shape":[1,3],"dtype":"BF16"},)"
                               R"("none":{"dtype":"I8","shape":[0,7],"data_offsets":[6,6]},)"
                               R"("one":{"dtype":"U8","shape":[],"data_offsets":[14,15]}}     )",
                               15));
  ASSERT_OK(parsed.result);
  const Safetensors& file = *parsed.result;
  EXPECT_EQ(file.metadata(), (SafetensorsMetadata{{"format", "pt"}, {"x", "\u00e9"}}));
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  const SafetensorsTensor* b = file.Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, SafetensorsType::kF32);
  EXPECT_EQ(b->shape, std::vector<int64_t>{2});
  ASSERT_EQ(b->data.size(), 8u);
  EXPECT_EQ(b->data[0], std::byte{6});
  EXPECT_TRUE(file.Find("none")->data.empty());
  EXPECT_EQ(file.Find("one")->data.size(), 1u);
  EXPECT_EQ(file.Find("absent"), nullptr);
}

TEST(SafetensorsTest, ReadsEveryType) {
  for (const auto& [name, size] : {std::pair("BOOL", 1),
                                   {"U8", 1},
                                   {"I8", 1},
                                   {"F8_E5M2", 1},
                                   {"F8_E4M3", 1},
                                   {"I16", 2},
                                   {"U16", 2},
                                   {"F16", 2},
                                   {"BF16", 2},
                                   {"I32", 4},
                                   {"U32", 4},
                                   {"F32", 4},
                                   {"I64", 8},
                                   {"U64", 8},
                                   {"F64", 8}}) {
    const auto result = Parse(absl::StrCat(R"({"a":{"dtype":")", name,
                                           R"(","shape":[3],"data_offsets":[0,)", 3 * size, "]}}"),
                              3 * size);
    ASSERT_OK(result);
    EXPECT_STREQ(Name(result->tensors()[0].type), name);
  }
}

TEST(SafetensorsTest, RefusesTensorsThatDoNotFillTheData) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  EXPECT_OK(Parse("{" + a + "}", 4));
  EXPECT_THAT(Parse("{" + a + "}", 5), IsInvalid({"fill 4 bytes, but 5"}));
  EXPECT_THAT(Parse("{" + a + "}", 3), IsInvalid({"\"a\"", "incomplete"}));
  EXPECT_THAT(Parse("{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})", 5),
              IsInvalid({"overlap"}));
  EXPECT_THAT(Parse("{" + a + R"(,"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}})", 7),
              IsInvalid({"leave a gap"}));
}

TEST(SafetensorsTest, RefusesWrongSizes) {
  const auto with = [](const std::string& shape, const std::string& offsets) {
    return Parse(R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}",
                 8);
  };
  EXPECT_OK(with("[2]", "[0,8]"));
  EXPECT_THAT(with("[2]", "[0,4]"), IsInvalid({"need 8 bytes"}));
  EXPECT_THAT(with("[2]", "[8,0]"), IsInvalid({"\"a\"", "[8, 0)"}));
  EXPECT_THAT(with("[2]", "[0]"), IsInvalid({"1 data_offsets; 2 are needed"}));
  EXPECT_THAT(with("[2]", "[0,8,8]"), IsInvalid({"the number 8"}));
  EXPECT_THAT(with("[-2]", "[0,8]"), IsInvalid({"the number -2"}));
  EXPECT_THAT(with("[2.0]", "[0,8]"), IsInvalid({"2.0"}));
  EXPECT_THAT(with("[4294967296,4294967296]", "[0,8]"), IsInvalid({"past 2^63"}));
  EXPECT_THAT(with("[18446744073709551615]", "[0,8]"), IsInvalid({"18446744073709551615"}));
  EXPECT_THAT(with("[99999999999999999999999]", "[0,8]"), IsInvalid({"99999999999999999999999"}));
  EXPECT_THAT(with("[1,1,1,1,1,1,1,1,2]", "[0,8]"), IsInvalid({"more than 8 dimensions"}));
  EXPECT_THAT(with("[[2]]", "[0,8]"), IsInvalid({"an array in tensor \"a\""}));
}

TEST(SafetensorsTest, RefusesOtherStructure) {
  EXPECT_THAT(Parse(R"({"a":{"dtype":"Q9","shape":[],"data_offsets":[0,0]}})", 0),
              IsUnimplemented({"x.safetensors", "\"a\"", "\"Q9\""}));
  EXPECT_THAT(Parse(R"({"a":{"dtype":"U8","shape":[1]}})", 1), IsInvalid({"lacks dtype, shape"}));
  EXPECT_THAT(Parse(R"({"a":{"dtype":"U8","dtype":"U8"}})", 1), IsInvalid({"\"dtype\" twice"}));
  EXPECT_THAT(Parse(R"({"a":{"type":"U8"}})", 1), IsInvalid({"has field \"type\""}));
  EXPECT_THAT(Parse(R"({"a":1})", 0), IsInvalid({"the number 1 in tensor \"a\""}));
  EXPECT_THAT(Parse(R"({"__metadata__":{"a":{}}})", 0), IsInvalid({"an object"}));
  EXPECT_THAT(Parse(R"({"__metadata__":{"a":"1","a":"2"}})", 0), IsInvalid({"\"a\" twice"}));
  EXPECT_THAT(Parse(R"({"__metadata__":{},"__metadata__":{}})", 0), IsInvalid({"twice"}));
  EXPECT_THAT(Parse(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                    R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                    0),
              IsInvalid({"names tensor \"a\" twice"}));
  EXPECT_THAT(Parse("[]", 0), IsInvalid({"an array"}));
  EXPECT_THAT(Parse("null", 0), IsInvalid({"null"}));
  EXPECT_THAT(Parse("{", 0), IsInvalid({"not valid JSON at byte"}));
  EXPECT_THAT(Parse("{} {}", 0), IsInvalid({"not valid JSON"}));
  EXPECT_THAT(Parse("{\"\xff\":1}", 0), IsInvalid({"not valid JSON"}));
  EXPECT_THAT(Parse(std::string(1'000'000, '['), 0), IsInvalid({"an array"}));
  EXPECT_OK(Parse("{}", 0));
}

TEST(SafetensorsTest, RefusesWrongHeaderLengths) {
  const auto raw = [](std::string bytes) { return Parsed(std::move(bytes)).result; };
  EXPECT_THAT(raw(""), IsInvalid({"0 bytes"}));
  EXPECT_THAT(raw("1234567"), IsInvalid({"7 bytes"}));
  EXPECT_THAT(raw(std::string("\x03\0\0\0\0\0\0\0{}", 10)), IsInvalid({"a header of 3 bytes"}));
  EXPECT_THAT(raw(std::string(16, '\xff')), IsInvalid({"a header of 18446744073709551615 bytes"}));
}

}  // namespace
}  // namespace lorc
