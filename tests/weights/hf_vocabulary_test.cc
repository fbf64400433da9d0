#include "runtime/weights/hf_vocabulary.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/support/tiny_model.h"
#include "tests/weights/json_edit.h"
#include "tests/weights/status_matchers.h"

namespace lorc {
namespace {

using nlohmann::json;
using test::FailsWith;
using test::IsInvalid;
using test::IsUnimplemented;
using test::TempFolder;
using Kind = Vocabulary::Kind;

constexpr int32_t kRows = 288;

// The files of a tiny model's tokenizer, to be changed before they are read.
struct Files {
  Files() {
    const TempFolder folder;
    EXPECT_OK(test::WriteTinyHf(test::TinyModel(), {}, folder.path()));
    tokenizer = json::parse(test::ReadFile(folder.File("tokenizer.json")));
    tokenizer_config = json::parse(test::ReadFile(folder.File("tokenizer_config.json")));
    config = json::parse(test::ReadFile(folder.File("config.json")));
  }

  absl::StatusOr<Vocabulary> Read(int32_t rows = kRows) const {
    const std::string texts[] = {tokenizer.dump(), tokenizer_config.dump(),
                                 special_tokens_map.dump(), config.dump(),
                                 generation_config.dump()};
    return ParseHfVocabulary({.tokenizer = texts[0],
                              .tokenizer_config = texts[1],
                              .special_tokens_map = texts[2],
                              .config = texts[3],
                              .generation_config = texts[4],
                              .chat_template = chat_template},
                             rows, "folder");
  }

  json tokenizer;
  json tokenizer_config;
  json special_tokens_map = json::object();
  json config;
  json generation_config = json::object();
  std::string chat_template;
};

absl::StatusOr<Vocabulary> With(const std::function<void(Files&)>& change) {
  Files files;
  change(files);
  return files.Read();
}

const json kByteLevel = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
const json kByteLevelOnly = {
    {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
const json kDigits = {{"type", "Digits"}, {"individual_digits", true}};

json Split(const char* pattern, const char* behavior = "Isolated", bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", behavior},
          {"invert", invert}};
}

json Sequence(const json& parts) { return {{"type", "Sequence"}, {"pretokenizers", parts}}; }

void ExpectEqual(const Vocabulary& actual, const Vocabulary& expected) {
  ASSERT_EQ(actual.tokens.size(), expected.tokens.size());
  for (size_t id = 0; id < expected.tokens.size(); ++id) {
    EXPECT_EQ(actual.tokens[id].text, expected.tokens[id].text) << id;
    EXPECT_EQ(actual.tokens[id].kind, expected.tokens[id].kind) << id;
  }
  EXPECT_EQ(actual.merges, expected.merges);
  EXPECT_EQ(actual.pre_tokenizer, expected.pre_tokenizer);
  EXPECT_EQ(actual.ignore_merges, expected.ignore_merges);
  EXPECT_EQ(actual.add_bos, expected.add_bos);
  EXPECT_EQ(actual.bos, expected.bos);
  EXPECT_EQ(actual.eos, expected.eos);
  EXPECT_EQ(actual.chat_template, expected.chat_template);
}

TEST(HfVocabularyTest, HoldsTheVocabularyInBothSpellingsOfMerges) {
  const test::TinyModel model;
  for (const bool pairs : {false, true}) {
    const TempFolder folder;
    ASSERT_OK(test::WriteTinyHf(model, {.merges_as_pairs = pairs}, folder.path()));
    const auto vocabulary = ReadHfVocabulary(folder.path(), kRows);
    ASSERT_OK(vocabulary);
    ExpectEqual(*vocabulary, model.vocabulary());
  }
}

TEST(HfVocabularyTest, AFolderWithoutTokenizerJson) {
  const TempFolder folder;
  EXPECT_THAT(ReadHfVocabulary(folder.path(), kRows),
              FailsWith(absl::StatusCode::kNotFound,
                        std::vector<std::string>{"no tokenizer.json", "SentencePiece"}));
}

TEST(HfVocabularyTest, PreTokenizers) {
  const auto name = [](const json& pre_tokenizer) {
    const auto result =
        With([&](Files& files) { files.tokenizer["pre_tokenizer"] = pre_tokenizer; });
    EXPECT_OK(result);
    return result.ok() ? result->pre_tokenizer : "";
  };
  const char* llama3 =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const char* gpt2 =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  EXPECT_EQ(name(kByteLevel), "gpt2");
  EXPECT_EQ(name(Sequence(json::array({kByteLevel}))), "gpt2");
  EXPECT_EQ(name(Sequence({kDigits, kByteLevel})), "smollm");
  EXPECT_EQ(name(Sequence({Split(llama3), kByteLevelOnly})), "llama3");
  EXPECT_EQ(name(Sequence({Split(llama3, "Removed", true), kByteLevelOnly})), "llama3");
  EXPECT_EQ(name(Sequence({Split(gpt2), kByteLevelOnly})), "gpt2");
}

TEST(HfVocabularyTest, OtherPreTokenizers) {
  const auto with = [](const json& pre_tokenizer) {
    return With([&](Files& files) { files.tokenizer["pre_tokenizer"] = pre_tokenizer; });
  };
  EXPECT_THAT(with(nullptr), IsUnimplemented({"no pre_tokenizer"}));
  EXPECT_THAT(with({{"type", "Metaspace"}}), IsUnimplemented({"\"Metaspace\""}));
  EXPECT_THAT(with(Sequence({Split("\\d+"), kByteLevelOnly})), IsUnimplemented({"\"\\\\d+\""}));
  EXPECT_THAT(with(Sequence({Split("x", "MergedWithNext"), kByteLevelOnly})),
              IsUnimplemented({"MergedWithNext"}));
  EXPECT_THAT(with({{"type", "ByteLevel"}}), IsUnimplemented({"add_prefix_space"}));
  EXPECT_THAT(with(Sequence({kByteLevel, kDigits})),
              IsUnimplemented({"(byte-level-gpt2, digits)"}));
  EXPECT_THAT(with(Sequence({json{{"type", "Digits"}}, kByteLevel})),
              IsUnimplemented({"digit-runs"}));
  EXPECT_THAT(with(kByteLevelOnly), IsUnimplemented({"(byte-level)"}));
  EXPECT_THAT(with(Sequence(json::array())), IsUnimplemented({"sequence ()"}));
  EXPECT_THAT(with(Sequence(7)), IsInvalid({"not an object"}));
  EXPECT_THAT(with(7), IsInvalid({"not an object"}));
}

TEST(HfVocabularyTest, OtherModels) {
  const auto with = [](const char* key, const json& value) {
    return With([&](Files& files) { files.tokenizer["model"][key] = value; });
  };
  EXPECT_THAT(with("type", "Unigram"), IsUnimplemented({"folder/tokenizer.json", "\"Unigram\""}));
  EXPECT_THAT(with("byte_fallback", true), IsUnimplemented({"byte_fallback"}));
  EXPECT_THAT(with("dropout", 0.1), IsUnimplemented({"dropout"}));
  EXPECT_THAT(with("end_of_word_suffix", "</w>"), IsUnimplemented({"\"</w>\""}));
  EXPECT_OK(with("continuing_subword_prefix", ""));
  EXPECT_THAT(With([](Files& files) {
                files.tokenizer["normalizer"] = {{"type", "NFC"}};
              }),
              IsUnimplemented({"normalizer"}));
  const auto ignore = with("ignore_merges", true);
  ASSERT_OK(ignore);
  EXPECT_TRUE(ignore->ignore_merges);
}

TEST(HfVocabularyTest, OddTokensAndMerges) {
  const auto vocab = [](const char* text, const json& id) {
    return With([&](Files& files) { files.tokenizer["model"]["vocab"][text] = id; });
  };
  EXPECT_THAT(vocab("new", 5), IsInvalid({"have the same id 5"}));
  EXPECT_THAT(vocab("new", 288), IsInvalid({"\"new\" has id 288", "288 rows"}));
  EXPECT_THAT(vocab("new", -1), IsInvalid({"is no integer"}));
  EXPECT_THAT(vocab("new", 1.0), IsInvalid({"is no integer"}));
  EXPECT_THAT(vocab("new", uint64_t{18446744073709551615u}), IsInvalid({"18446744073709551615"}));
  EXPECT_THAT(With([](Files& files) { files.tokenizer["model"] = 1; }),
              IsInvalid({"model is not an object"}));
  EXPECT_THAT(With([](Files& files) { files.tokenizer["model"]["vocab"] = 1; }),
              IsInvalid({"vocab is not an object"}));
  for (const json& merge : {json("ab"), json("a b c"), json({"a"}), json({"a", 1}), json(1)})
    EXPECT_THAT(
        With([&](Files& files) { files.tokenizer["model"]["merges"] = json::array({merge}); }),
        IsInvalid({"merge"}));
  EXPECT_THAT(With([](Files& files) { files.tokenizer["model"]["merges"] = nullptr; }),
              IsInvalid({"merges is not an array"}));
  EXPECT_THAT(With([](Files& files) {
                files.tokenizer["model"]["vocab"] = json::object();
                files.tokenizer["added_tokens"] = json::array();
                files.tokenizer_config = json::object();
                files.config = json::object();
              }),
              IsInvalid({"no tokens"}));
}

TEST(HfVocabularyTest, HolesAreUnused) {
  const auto result = With([](Files& files) { files.tokenizer["model"]["vocab"]["far"] = 287; });
  ASSERT_OK(result);
  ASSERT_EQ(result->tokens.size(), 288u);
  EXPECT_EQ(result->tokens[287].text, "far");
  EXPECT_EQ(result->tokens[280].kind, Kind::kUnused);
  EXPECT_EQ(result->tokens[280].text, "");
}

TEST(HfVocabularyTest, AddedTokens) {
  const auto with = [](const json& token) {
    return With([&](Files& files) { files.tokenizer["added_tokens"].push_back(token); });
  };
  const auto control = with({{"id", 280}, {"content", "<x>"}, {"special", true}});
  ASSERT_OK(control);
  EXPECT_EQ(control->tokens[280].text, "<x>");
  EXPECT_EQ(control->tokens[280].kind, Kind::kControl);
  const auto literal = with({{"id", 280}, {"content", "<x>"}, {"special", false}});
  ASSERT_OK(literal);
  EXPECT_EQ(literal->tokens[280].kind, Kind::kUserDefined);
  EXPECT_THAT(with({{"id", 7}, {"content", "<x>"}}), IsInvalid({"\"<x>\"", "id 7 of token"}));
  EXPECT_THAT(with({{"id", 288}, {"content", "<x>"}}), IsInvalid({"288 rows"}));
  EXPECT_THAT(with({{"content", "<x>"}}), IsInvalid({"is no integer"}));
  EXPECT_THAT(with({{"id", 280}}), IsInvalid({"empty"}));
  EXPECT_THAT(with(3), IsInvalid({"not an object"}));
  for (const char* key : {"lstrip", "rstrip", "single_word"})
    EXPECT_THAT(with({{"id", 280}, {"content", "<x>"}, {key, true}}),
                IsUnimplemented({"\"<x>\"", key}));
  EXPECT_THAT(With([](Files& files) { files.tokenizer["added_tokens"] = 3; }),
              IsInvalid({"added_tokens is not an array"}));
}

TEST(HfVocabularyTest, AddedTokensOfTheTokenizerConfig) {
  const auto with = [](const char* id) {
    return With([&](Files& files) {
      files.tokenizer_config["added_tokens_decoder"] = {
          {id, {{"content", "<x>"}, {"special", true}}}};
    });
  };
  const auto result = with("280");
  ASSERT_OK(result);
  EXPECT_EQ(result->tokens[280].kind, Kind::kControl);
  for (const char* id : {"", "-1", "1x", "99999999999999999999999"})
    EXPECT_THAT(with(id), IsInvalid({"added_tokens_decoder"}));
}

TEST(HfVocabularyTest, EveryEndTokenCountsOnce) {
  const auto result = With([](Files& files) {
    files.generation_config["eos_token_id"] = {0, 2};
    files.config["eos_token_id"] = 2;
    files.tokenizer_config["eos_token"] = {{"content", "<|im_end|>"}};
  });
  ASSERT_OK(result);
  EXPECT_EQ(result->eos, (std::vector<TokenId>{0, 2}));
  const auto none = With([](Files& files) {
    files.config["eos_token_id"] = nullptr;
    files.tokenizer_config.erase("eos_token");
  });
  ASSERT_OK(none);
  EXPECT_TRUE(none->eos.empty());
  for (const json& odd : {json(-1), json(288), json("2"), json({2, 2.5}), json(int64_t{1} << 40)})
    EXPECT_THAT(With([&](Files& files) { files.config["eos_token_id"] = odd; }),
                IsInvalid({"folder/config.json", "eos_token_id is no token id"}));
  EXPECT_THAT(With([](Files& files) { files.config["eos_token_id"] = 280; }),
              IsInvalid({"eos token 280 is none of the 277"}));
}

TEST(HfVocabularyTest, BosFromWhereverItIsNamed) {
  const auto bos = [](const std::function<void(Files&)>& change) {
    const auto result = With([&](Files& files) {
      files.tokenizer_config.erase("bos_token");
      files.config.erase("bos_token_id");
      change(files);
    });
    EXPECT_OK(result);
    return result.ok() ? result->bos : -2;
  };
  EXPECT_EQ(bos([](Files&) {}), kNoToken);
  EXPECT_EQ(bos([](Files& f) { f.tokenizer_config["bos_token"] = "<|endoftext|>"; }), 0);
  EXPECT_EQ(bos([](Files& f) {
              f.special_tokens_map["bos_token"] = {{"content", "<|im_end|>"}};
            }),
            2);
  EXPECT_EQ(bos([](Files& f) { f.config["bos_token_id"] = 1; }), 1);
  EXPECT_EQ(bos([](Files& f) { f.generation_config["bos_token_id"] = 2; }), 2);
  EXPECT_THAT(With([](Files& f) { f.tokenizer_config["bos_token"] = "absent"; }),
              IsInvalid({"bos_token is \"absent\"", "not in the vocabulary"}));
  EXPECT_THAT(With([](Files& f) { f.tokenizer_config["bos_token"] = 1; }),
              IsInvalid({"bos_token is no token's text"}));
}

TEST(HfVocabularyTest, NamedSpecialTokensBecomeControlTokens) {
  const auto result = With([](Files& files) { files.tokenizer_config["bos_token"] = "h"; });
  ASSERT_OK(result);
  EXPECT_EQ(result->tokens[static_cast<size_t>(result->bos)].kind, Kind::kControl);
}

json Template(const json& single) { return {{"type", "TemplateProcessing"}, {"single", single}}; }
const json kText = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
const json kStart = {{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}};

TEST(HfVocabularyTest, PostProcessorsThatAddBos) {
  const json with_bos = Template({kStart, kText});
  const json in_sequence = {{"type", "Sequence"},
                            {"processors", json::array({{{"type", "ByteLevel"}}, with_bos})}};
  for (const json& post_processor : {with_bos, in_sequence}) {
    Files files;
    files.tokenizer["post_processor"] = post_processor;
    files.tokenizer_config.erase("add_bos_token");
    auto result = files.Read();
    ASSERT_OK(result);
    EXPECT_TRUE(result->add_bos);
    EXPECT_EQ(result->bos, 0) << "the post-processor's token, not tokenizer_config.json's";
    files.tokenizer_config["add_bos_token"] = false;
    result = files.Read();
    ASSERT_OK(result);
    EXPECT_FALSE(result->add_bos);
    EXPECT_EQ(result->bos, 1);
  }
  const auto plain = With([](Files& files) {
    files.tokenizer["post_processor"] = Template(json::array({kText}));
    files.tokenizer_config["add_bos_token"] = true;
  });
  ASSERT_OK(plain);
  EXPECT_TRUE(plain->add_bos);
  EXPECT_EQ(plain->bos, 1);
}

TEST(HfVocabularyTest, OtherPostProcessors) {
  const auto with = [](const json& post_processor) {
    return With([&](Files& files) {
      files.tokenizer["post_processor"] = post_processor;
      files.tokenizer_config.erase("add_bos_token");
    });
  };
  EXPECT_THAT(with(Template({kText, kStart})), IsUnimplemented({"more than one token in front"}));
  EXPECT_THAT(with(Template({kStart, kStart, kText})), IsUnimplemented({"more than one token"}));
  EXPECT_THAT(with({{"type", "RobertaProcessing"}}), IsUnimplemented({"\"RobertaProcessing\""}));
  EXPECT_THAT(with(Template(1)), IsInvalid({"no array \"single\""}));
  EXPECT_THAT(with(Template({1, 2, 3})), IsInvalid({"neither Sequence nor SpecialToken"}));
  EXPECT_THAT(with(3), IsInvalid({"not an object"}));
  EXPECT_THAT(with(Template({json{{"SpecialToken", {{"id", "absent"}}}}, kText})),
              IsInvalid({"\"absent\"", "not in the vocabulary"}));
  EXPECT_THAT(With([](Files& files) { files.tokenizer_config["add_eos_token"] = true; }),
              IsUnimplemented({"add_eos_token"}));
}

TEST(HfVocabularyTest, ChatTemplates) {
  const auto with = [](const json& value) {
    return With([&](Files& files) { files.tokenizer_config["chat_template"] = value; });
  };
  EXPECT_EQ(with("one")->chat_template, "one");
  EXPECT_EQ(with(nullptr)->chat_template, "");
  const json several = {{{"name", "tool_use"}, {"template", "tools"}},
                        {{"name", "default"}, {"template", "plain"}}};
  EXPECT_EQ(with(several)->chat_template, "plain");
  EXPECT_EQ(with(json::array({several[0]}))->chat_template, "");
  EXPECT_THAT(with(json::array({1})), IsInvalid({"chat_template is not an object"}));
  EXPECT_THAT(with(1), IsInvalid({"chat_template is not a text"}));
  const auto file = With([](Files& files) { files.chat_template = "of the file"; });
  ASSERT_OK(file);
  EXPECT_EQ(file->chat_template, "of the file");
}

}  // namespace
}  // namespace lorc
