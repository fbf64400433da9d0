#include "runtime/weights/gguf.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/support/gguf_builder.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using test::Bytes;
using test::GgufBuilder;
using test::GgufString;
using test::IsInvalid;
using test::IsUnimplemented;

absl::StatusOr<Gguf> Parse(const std::string& bytes) {
  return Gguf::Parse(std::as_bytes(std::span(bytes)), "x.gguf");
}

GgufBuilder OneTensor() {
  GgufBuilder gguf;
  gguf.AddTensor({"a", 0, {4, 2}, std::string(32, 'x')});
  return gguf;
}

std::string Raw(GgufValueType type) { return Bytes(static_cast<uint32_t>(type)); }

TEST(GgufTest, ReadsEveryKindOfValue) {
  GgufBuilder builder;
  const std::string ff(8, '\xff');
  for (uint32_t type = 0; type <= 12; ++type) {
    const bool composite = type == 7 || type == 8 || type == 9;
    if (!composite) builder.SetRaw("k" + std::to_string(type), type, "");
  }
  builder.SetRaw("k0", 0, ff.substr(0, 1));
  builder.SetRaw("k1", 1, ff.substr(0, 1));
  builder.SetRaw("k2", 2, ff.substr(0, 2));
  builder.SetRaw("k3", 3, ff.substr(0, 2));
  builder.SetRaw("k4", 4, ff.substr(0, 4));
  builder.SetRaw("k5", 5, ff.substr(0, 4));
  builder.SetFloat32("k6", 1.5f);
  builder.SetBool("k7", true);
  builder.SetString("k8", "text");
  builder.SetStrings("k9", {"a", "", "bc"});
  builder.SetRaw("k10", 10, ff);
  builder.SetRaw("k11", 11, ff);
  builder.SetRaw("k12", 12, Bytes(uint64_t{0xc000000000000000}));
  builder.SetInt32s("k13", std::vector<int32_t>{-1, 7});
  const std::string bytes = builder.Build();
  const auto gguf = Parse(bytes);
  ASSERT_OK(gguf);
  const auto value = [&](const char* key) { return *gguf->FindValue(key); };
  EXPECT_EQ(value("k0").AsInteger(), 255);
  EXPECT_EQ(value("k1").AsInteger(), -1);
  EXPECT_EQ(value("k2").AsInteger(), 65535);
  EXPECT_EQ(value("k3").AsInteger(), -1);
  EXPECT_EQ(value("k4").AsInteger(), 4294967295);
  EXPECT_EQ(value("k5").AsInteger(), -1);
  EXPECT_EQ(value("k6").AsNumber(), 1.5);
  EXPECT_EQ(value("k7").AsBool(), true);
  EXPECT_EQ(value("k8").AsString(), "text");
  EXPECT_EQ(value("k9").AsStrings(), (std::vector<std::string_view>{"a", "", "bc"}));
  EXPECT_EQ(value("k10").AsInteger(), std::nullopt) << "2^64 - 1 is no int64";
  EXPECT_EQ(value("k11").AsInteger(), -1);
  EXPECT_EQ(value("k12").AsNumber(), -2.0);
  EXPECT_EQ(value("k13").AsIntegers(), (std::vector<int64_t>{-1, 7}));
  EXPECT_EQ(value("k4").AsNumber(), 4294967295.0);
  EXPECT_EQ(gguf->FindValue("none"), nullptr);
}

TEST(GgufTest, OtherTypesConvertToNothing) {
  GgufBuilder builder;
  builder.SetString("text", "1");
  builder.SetFloat32("float", 1.0f);
  builder.SetBool("bool", true);
  builder.SetStrings("strings", {"a"});
  builder.SetInt32s("integers", std::vector<int32_t>{1});
  const std::string bytes = builder.Build();
  const auto gguf = Parse(bytes);
  ASSERT_OK(gguf);
  for (const char* key : {"text", "float", "bool", "strings", "integers"})
    EXPECT_EQ(gguf->FindValue(key)->AsInteger(), std::nullopt) << key;
  EXPECT_EQ(gguf->FindValue("float")->AsString(), std::nullopt);
  EXPECT_EQ(gguf->FindValue("float")->AsBool(), std::nullopt);
  EXPECT_EQ(gguf->FindValue("text")->AsNumber(), std::nullopt);
  EXPECT_EQ(gguf->FindValue("strings")->AsIntegers(), std::nullopt);
  EXPECT_EQ(gguf->FindValue("integers")->AsStrings(), std::nullopt);
  EXPECT_EQ(gguf->FindValue("text")->AsStrings(), std::nullopt);
}

TEST(GgufTest, ReadsTensorsOfBothVersions) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder builder = OneTensor();
    builder.version = version;
    builder.AddTensor({"b", 3, {64, 1, 1, 1}, std::string(40, 'y')});
    builder.AddTensor({"c", 12, {256}, std::string(144, 'z')});
    const std::string bytes = builder.Build();
    const auto gguf = Parse(bytes);
    ASSERT_OK(gguf);
    const GgufTensor* a = gguf->FindTensor("a");
    ASSERT_NE(a, nullptr);
    EXPECT_EQ(a->type, StoredType::kF32);
    EXPECT_EQ(a->rank, 2);
    EXPECT_EQ(a->extents, (std::array<int64_t, 4>{4, 2, 1, 1}));
    EXPECT_EQ(a->data.size(), 32u);
    EXPECT_EQ(gguf->FindTensor("b")->type, StoredType::kQ4_1);
    EXPECT_EQ(gguf->FindTensor("b")->data[39], std::byte{'y'});
    EXPECT_EQ(gguf->FindTensor("c")->type, std::nullopt);
    EXPECT_EQ(GgmlTypeName(gguf->FindTensor("c")->type_id), "Q4_K");
    EXPECT_EQ(gguf->FindTensor("d"), nullptr);
  }
  EXPECT_EQ(GgmlTypeName(99), "type 99");
}

TEST(GgufTest, HonoursTheAlignment) {
  GgufBuilder builder = OneTensor();
  builder.AddTensor({"b", 0, {1}, "beta"});
  builder.alignment = 128;
  builder.SetUint32("general.alignment", 128);
  const std::string bytes = builder.Build();
  const auto gguf = Parse(bytes);
  ASSERT_OK(gguf);
  EXPECT_EQ(gguf->FindTensor("b")->data[0], std::byte{'b'});
  for (const uint32_t wrong : {0u, 1u, 4u, 24u, 131072u, 0x80000000u}) {
    builder.SetUint32("general.alignment", wrong);
    EXPECT_THAT(Parse(builder.Build()), IsInvalid({"general.alignment", std::to_string(wrong)}));
  }
  builder.SetString("general.alignment", "32");
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"general.alignment is not an integer"}));
}

TEST(GgufTest, RefusesOtherFilesAndVersions) {
  EXPECT_THAT(Parse(""), IsInvalid({"x.gguf", "not a GGUF file"}));
  EXPECT_THAT(Parse("GGML1234"), IsInvalid({"not a GGUF file"}));
  EXPECT_THAT(Parse("GGUF"), IsInvalid({"ends inside the header"}));
  GgufBuilder builder;
  for (const uint32_t version : {0u, 1u, 4u}) {
    builder.version = version;
    EXPECT_THAT(Parse(builder.Build()),
                IsUnimplemented({"GGUF version " + std::to_string(version)}));
  }
  builder.version = 0x03000000;
  EXPECT_THAT(Parse(builder.Build()), IsUnimplemented({"big-endian"}));
}

TEST(GgufTest, RefusesAbsurdCounts) {
  const std::string header = "GGUF" + Bytes(3u);
  const std::string huge = Bytes(std::numeric_limits<uint64_t>::max());
  EXPECT_THAT(Parse(header + huge + Bytes(uint64_t{0})),
              IsInvalid({"18446744073709551615 tensors"}));
  EXPECT_THAT(Parse(header + Bytes(uint64_t{0}) + huge), IsInvalid({"metadata keys"}));
  EXPECT_THAT(Parse(header + Bytes(uint64_t{0}) + Bytes(uint64_t{1}) + huge),
              IsInvalid({"ends inside a metadata key"}));
  GgufBuilder builder;
  builder.SetRaw("a", 8, huge);
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"ends inside the value of key \"a\""}));
  builder.SetRaw("a", 9, Raw(GgufValueType::kString) + huge);
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"array of 18446744073709551615 elements"}));
  builder.SetRaw("a", 9, Raw(GgufValueType::kUint64) + Bytes(uint64_t{1} << 24));
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"ends inside the value of key \"a\""}));
}

TEST(GgufTest, RefusesOddMetadata) {
  GgufBuilder builder;
  builder.SetRaw("a", 13, "");
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"\"a\"", "value type 13"}));
  builder.SetRaw("a", 9, Bytes(77u) + Bytes(uint64_t{0}));
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"\"a\"", "array of type 77"}));
  builder.SetRaw("a", 7, "\2");
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"a bool of value 2"}));
  std::string nested = Raw(GgufValueType::kUint8) + Bytes(uint64_t{0});
  const std::string array_of_one = Raw(GgufValueType::kArray) + Bytes(uint64_t{1});
  for (int depth = 2; depth <= 4; ++depth) nested.insert(0, array_of_one);
  builder.SetRaw("a", 9, nested);
  EXPECT_OK(Parse(builder.Build()));
  builder.SetRaw("a", 9, array_of_one + nested);
  EXPECT_THAT(Parse(builder.Build()), IsInvalid({"more than 4 deep"}));
  GgufBuilder twice;
  twice.SetUint32("", 1);
  EXPECT_THAT(Parse(twice.Build()), IsInvalid({"a metadata key of 0 bytes"}));
  const std::string pair = GgufString("a") + Bytes(4u) + Bytes(1u);
  EXPECT_THAT(Parse("GGUF" + Bytes(3u) + Bytes(uint64_t{0}) + Bytes(uint64_t{2}) + pair + pair),
              IsInvalid({"\"a\" stands there twice"}));
}

TEST(GgufTest, RefusesOddTensors) {
  const auto with = [](const GgufBuilder::Tensor& tensor) {
    GgufBuilder builder = OneTensor();
    builder.AddTensor(tensor);
    return Parse(builder.Build());
  };
  EXPECT_THAT(with({"a", 0, {1}, "xxxx"}), IsInvalid({"\"a\" stands there twice"}));
  EXPECT_THAT(with({"b", 0, {}, ""}), IsInvalid({"0 dimensions"}));
  EXPECT_THAT(with({"b", 0, {1, 1, 1, 1, 1}, "xxxx"}), IsInvalid({"5 dimensions"}));
  EXPECT_THAT(with({"b", 0, {4, 0}, ""}), IsInvalid({"extent 0 in dimension 1"}));
  EXPECT_THAT(with({"b", 0, {-4}, ""}), IsInvalid({"extent -4"}));
  EXPECT_THAT(with({"b", 0, {int64_t{1} << 32, int64_t{1} << 32}, ""}), IsInvalid({"past 2^63"}));
  EXPECT_THAT(with({"b", 0, {int64_t{1} << 62}, ""}), IsInvalid({"cannot store"}));
  EXPECT_THAT(with({"b", 8, {16, 2}, std::string(34, 'x')}), IsInvalid({"Q8_0", "blocks of 32"}));
  EXPECT_THAT(with({"b", 0, {64}, "short"}), IsInvalid({"needs 256 bytes", "incomplete"}));
  EXPECT_THAT(with({"", 0, {1}, "xxxx"}), IsInvalid({"a tensor name of 0 bytes"}));
}

// Offsets of the second of two tensors, set by hand behind the builder's back.
TEST(GgufTest, RefusesOverlapAndMisalignment) {
  GgufBuilder builder = OneTensor();
  builder.AddTensor({"b", 0, {8}, std::string(32, 'y')});
  const std::string bytes = builder.Build();
  const std::string description = GgufString("b") + Bytes(1u) + Bytes(uint64_t{8}) + Bytes(0u);
  const size_t place = bytes.find(description) + description.size();
  const auto with_offset = [&](uint64_t offset) {
    std::string changed = bytes;
    changed.replace(place, 8, Bytes(offset));
    return Parse(changed);
  };
  EXPECT_OK(with_offset(32));
  EXPECT_THAT(with_offset(0), IsInvalid({"\"a\"", "\"b\"", "overlap"}));
  EXPECT_THAT(with_offset(33), IsInvalid({"no multiple of the alignment 32"}));
  EXPECT_THAT(with_offset(64), IsInvalid({"needs 32 bytes at offset 64"}));
  EXPECT_THAT(with_offset(std::numeric_limits<uint64_t>::max() - 31),
              IsInvalid({"needs 32 bytes"}));
}

}  // namespace
}  // namespace lorc
