// Templates and chats that want too much: each must be refused, soon and without harm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "tests/text/render.h"

namespace lorc {
namespace {

using ::testing::HasSubstr;

std::string Repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

void ExpectRefused(const std::string& source, const std::string& message,
                   const std::vector<ChatMessage>& messages = {{"user", "Hi"}}) {
  const std::string shown = source.substr(0, 100);
  const auto start = std::chrono::steady_clock::now();
  const absl::Status status = Failure(source, messages);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << shown << " " << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << shown;
  EXPECT_LT(elapsed.count(), 60.0) << shown;  // about a second when optimised
}

TEST(TemplateLimitsTest, Size) {
  ExpectRefused(std::string((1 << 20) + 1, 'x'), "1048577 bytes; at most 1048576");
  EXPECT_TRUE(Failure(std::string(1 << 20, 'x')).ok());
  EXPECT_TRUE(Failure(Repeat("{{ 1 }}", 10000)).ok());
}

TEST(TemplateLimitsTest, NestedSyntax) {
  const std::string message = "levels inside each other";
  for (const int count : {120, 20000}) {
    ExpectRefused("{{ " + Repeat("(", count) + "1" + Repeat(")", count) + " }}", message);
    ExpectRefused("{{ " + Repeat("[", count) + Repeat("]", count) + " }}", message);
    ExpectRefused("{{ " + Repeat("{1:", count) + "1" + Repeat("}", count) + " }}", message);
    ExpectRefused("{{ " + Repeat("not ", count) + "1 }}", message);
    ExpectRefused("{{ " + Repeat("- ", count) + "1 }}", message);
    ExpectRefused("{{ x" + Repeat(".a", count) + " }}", message);
    ExpectRefused("{{ x" + Repeat("[0]", count) + " }}", message);
    ExpectRefused("{{ x" + Repeat("|trim", count) + " }}", message);
    ExpectRefused("{{ x" + Repeat("()", count) + " }}", message);
    ExpectRefused("{{ x" + Repeat(" if 1", count) + " }}", message);
    ExpectRefused("{{ " + Repeat("1 if x else ", count) + "1 }}", message);
    ExpectRefused(Repeat("{% if 1 %}", count) + Repeat("{% endif %}", count), message);
    ExpectRefused(Repeat("{% for i in x %}", count) + Repeat("{% endfor %}", count), message);
    ExpectRefused("{% set " + Repeat("(", count) + "a" + Repeat(")", count) + " = 1 %}", message);
  }
}

TEST(TemplateLimitsTest, LongChainsAreNotDeep) {
  EXPECT_TRUE(Failure("{{ 1" + Repeat(" + 1", 20000) + " }}").ok());
  EXPECT_TRUE(Failure("{{ 1" + Repeat(" and 1", 20000) + " }}").ok());
  EXPECT_TRUE(Failure("{{ 1" + Repeat(" == 1", 20000) + " }}").ok());
  EXPECT_TRUE(Failure("{{ 1" + Repeat(" ~ 1", 20000) + " }}").ok());
  EXPECT_TRUE(Failure("{% if 0 %}" + Repeat("{% elif 0 %}", 20000) + "{% endif %}").ok());
  EXPECT_TRUE(Failure("{{ [" + Repeat("1,", 20000) + "] }}").ok());
}

TEST(TemplateLimitsTest, Recursion) {
  ExpectRefused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "evaluations inside each other");
  ExpectRefused(
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "evaluations inside each other");
  ExpectRefused("{{ 'a' | map(" + Repeat("'map', ", 500) + "'list') | list }}",
                "evaluations inside each other");
}

TEST(TemplateLimitsTest, Steps) {
  const std::string loops = Repeat("{% for i in range(1000) %}", 4);
  ExpectRefused(loops + "x" + Repeat("{% endfor %}", 4), "more than 4000000 steps");
  ExpectRefused("{{ range(100001) }}", "more than 100000 items");
  ExpectRefused("{{ range(-9223372036854775807, 9223372036854775807) }}", "more than 100000 items");
  ExpectRefused(
      "{% for i in range(100000) %}{% for c in messages[0].content %}{% endfor %}{% endfor %}",
      "steps", {{"user", std::string(1000, 'x')}});
  ExpectRefused("{% set a = range(9999) | list %}{% for i in a %}{{ i in a }}{% endfor %}",
                "steps");
  ExpectRefused(
      "{{ dict(" + Repeat("a=1,", 10) + ") }}{% set d = {" +
          [] {
            std::string items;
            for (int i = 0; i < 20000; ++i) items += std::to_string(i) + ":1,";
            return items;
          }() +
          "} %}",
      "steps");
}

TEST(TemplateLimitsTest, Memory) {
  ExpectRefused(
      "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s "
      "%}{% endfor %}",
      "a string of more than 16777216 bytes");
  ExpectRefused("{{ 'x' * 9223372036854775807 }}", "repetition");
  ExpectRefused("{{ [1] * 1000000000 }}", "repetition");
  ExpectRefused("{{ 'aaaa' | replace('', 'x' * 10000000) }}", "a string of more than");
  ExpectRefused("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "bytes of text");
  ExpectRefused(
      "{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = ns.a + "
      "['y' * 1000000] %}{% endfor %}",
      "bytes of memory");
  ExpectRefused("{{ ['x' * 10000000] | join | indent(1000000) }}", "an indent is");
  ExpectRefused("{% set x %}{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}{% endset %}",
                "bytes of text");
}

// Lists shared within lists are small in memory and vast when written out or compared.
TEST(TemplateLimitsTest, SharedLists) {
  const std::string grow =
      "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(50) %}{% set ns.a = [ns.a, ns.a] %}"
      "{% set ns.b = [ns.b, ns.b] %}{% endfor %}";
  ExpectRefused(grow + "{{ ns.a }}", "steps");
  ExpectRefused(grow + "{{ ns.a | tojson }}", "steps");
  ExpectRefused(grow + "{{ ns.a == ns.b }}", "steps");
  ExpectRefused(grow + "{{ ns.a < ns.b }}", "steps");
  ExpectRefused(
      "{% set ns = namespace(a=[1]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}"
      "{% endfor %}",
      "lists inside each other");
  ExpectRefused(
      "{% set ns = namespace(a=[1]) %}{% for i in range(90000) %}{% set ns.a = {1: ns.a} "
      "%}{% endfor %}",
      "lists inside each other");
}

TEST(TemplateLimitsTest, NamespacesInCircles) {
  EXPECT_TRUE(Failure("{% set a = namespace() %}{% set a.b = a %}{% set a.c = [a, {'x': a}] %}"
                      "{{ a.b.b.b.c[0].b is defined }}")
                  .ok());
  EXPECT_TRUE(Failure("{% set ns = namespace(head=none) %}{% for i in range(50000) %}"
                      "{% set ns.head = namespace(next=ns.head) %}{% endfor %}")
                  .ok());
  ExpectRefused("{% set a = namespace() %}{% set a.b = [a] %}{{ a.b }}", "can't be printed");
}

// Searching text for text takes linear time, whatever both are.
TEST(TemplateLimitsTest, Searching) {
  const std::string text(1 << 20, 'a');
  const std::string needle = std::string(1 << 19, 'a') + "b";
  for (const char* expression : {"messages[1].content in messages[0].content",
                                 "messages[0].content.find(messages[1].content)",
                                 "messages[0].content.rfind(messages[1].content)",
                                 "messages[0].content.split(messages[1].content) | length",
                                 "messages[0].content.rsplit(messages[1].content) | length",
                                 "messages[0].content.count(messages[1].content)",
                                 "messages[0].content.replace(messages[1].content, 'x') | length",
                                 "messages[0].content.strip(messages[1].content) | length"}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_TRUE(Failure("{{ " + std::string(expression) + " }}", {{"u", text}, {"u", needle}}).ok())
        << expression;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    EXPECT_LT(elapsed.count(), 30.0) << expression;
  }
}

TEST(TemplateLimitsTest, LongChatsAreWithinThem) {
  const std::vector<ChatMessage> messages(5000, {"user", std::string(1000, 'x')});
  const ChatTemplate chat_template = Parse(
      "{% for m in messages %}{% if m.role == 'user' %}{{ '<u>' + m.content | trim + '</u>\n' "
      "}}{% elif m.role == 'assistant' %}{{ m.content }}{% endif %}{% endfor %}");
  EXPECT_EQ(Rendered(chat_template, messages, true).size(), 5000u * 1008u);
}

TEST(TemplateLimitsTest, BrokenUtf8IsLeftAlone) {
  const ChatTemplate chat_template = Parse(
      "{% set c = messages[0].content %}{{ c | trim }}{{ c | length }}{{ c[::-1] }}{{ c.upper() }}"
      "{{ [c] | tojson }}{{ [c] }}{% for x in c %}{{ x }}{% endfor %}");
  const std::string c = "\xFF\xC3 \xE2\x82";
  EXPECT_EQ(Rendered(chat_template, {{"user", c}}, true),
            c + "5" + "\x82\xE2 \xC3\xFF" + c + "[\"" + c + "\"]['" + c + "']" + c);
}

}  // namespace
}  // namespace lorc
