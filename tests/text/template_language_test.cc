// The template language, piece by piece. Expected texts are those of Jinja 3.1.6 as transformers
// sets it up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>
#include <utility>

#include "tests/text/render.h"

namespace lorc {
namespace {

using ::testing::HasSubstr;

struct Case {
  const char* source;
  const char* expected;
};

void ExpectRendered(std::span<const Case> cases) {
  for (const auto& [source, expected] : cases) {
    const std::string text =
        Rendered(Parse(source), {{"system", "Be brief."}, {"user", "What is 2+2?"}}, true);
    EXPECT_EQ(text, expected) << source;
  }
}

TEST(TemplateLanguageTest, ExpressionsAndStatements) {
  static constexpr Case kCases[] = {
      {"{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ "
       "7 / 2 }} {{ 2 ** 3 ** 2 }}",
       "3 3 -4 2 -2 1024 3.5 64"},
      {"{{ 1.5 + 1 }} {{ -7.5 // 2 }} {{ 7.5 % -2 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ "
       "0.0001 }} {{ -0.0 }} {{ 1.0 }}",
       "2.5 -4.0 -0.5 1e+16 0.30000000000000004 1e-05 0.0001 -0.0 1.0"},
      {"{{ true + 1 }} {{ true }} {{ none }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' == 1 }} {{ not "
       "'' }} {{ 0x1F }} {{ 1_000 }}",
       "2 True None True True False True 31 1000"},
      {"{{ 'a' + 'b' }} {{ 'ab' * 3 }} {{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'x' ~ 1 ~ none ~ 1.5 ~ "
       "[1, 'a'] }} {{ 'a' 'b' }}",
       "ab ababab [1, 2] (1, 2) x1None1.5[1, 'a'] ab"},
      {"{{ [1, 'two', 3.0, none, true, [4], (5,), ()] }} {{ {'a': 1, 2: 'b', 'a': 3} }} {{ "
       "[\"it's\", 'q\"', '\\n\\t\\\\\\x7f é'] }}",
       "[1, 'two', 3.0, None, True, [4], (5,), ()] {'a': 3, 2: 'b'} [\"it's\", 'q\"', "
       "'\\n\\t\\\\\\x7f é']"},
      {"{{ '\\x41\\u00e9\\101' }} {{ 'a\\qb' }} {{ 'it\\'s' }} {{ \"tab\\there\" }}",
       "AéA a\\qb it's tab\there"},
      {"{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 2 in [1, 2] }} {{ "
       "'b' in 'abc' }} {{ 'k' in {'k': 1} }} {{ 1 not in [1] }}",
       "True False True True True True True False"},
      {"{{ 1 and 2 }} {{ 0 or 'x' }} {{ 1 if 0 else 2 }} {{ 'a' if 0 else 'b' if 0 else 'c' }} {{ "
       "('b' if false) }}|",
       "2 x 2 c |"},
      {"{{ 'abc'[0] }} {{ 'abc'[-1] }} {{ 'abc'[5] }}| {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ "
       "'abcdef'[1:5:2] }} {{ 'abcdef'[-2:-5:-1] }} {{ 'héllo'[1:3] }} {{ 'abc'[-10:2] }}",
       "a c | bc cba bd edc él ab"},
      {"{{ [1, 2, 3][-1] }} {{ [1, 2, 3][9] }}| {{ [1, 2, 3][::2] }} {{ (1, 2, 3)[1:] }} {{ [1, 2, "
       "3].0 }} {{ [[1, 2], [3]][0][1] }}",
       "3 | [1, 3] (2, 3) 1 2"},
      {"{{ 'a b'.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,,c'.split(',') }} {{ "
       "'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'r</t>b'.split('</t>')[-1] }}",
       "['a', 'b'] ['a', 'b c '] ['a', 'b', '', 'c'] ['a', 'b,c'] ['a,b', 'c'] b"},
      {"{{ ' x '.strip() }}|{{ ' x '.lstrip() }}|{{ ' x '.rstrip() }}|{{ 'abcxcba'.strip('abc') "
       "}}|{{ '\\n\\nx\\n'.lstrip('\\n') }}|{{ '\\u2003x\\u3000'.strip() }}",
       "x|x | x|x|x\n|x"},
      {"{{ 'abc'.upper() }} {{ 'aBC dEF'.capitalize() }} {{ \"they're x-y\".title() }} {{ "
       "\"they're x-y\" | title }} {{ 'straße'.upper() }} {{ 'éa' | capitalize }}",
       "ABC Abc def They'Re X-Y They're X-Y STRASSE Éa"},
      {"{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'aébca'.rfind('a') }} {{ "
       "'abc'.find('z') }} {{ 'banana'.count('an') }} {{ 'xy'.removeprefix('x') }}",
       "True True 4 -1 2 y"},
      {"{{ 'aaa'.replace('a', 'b', 2) }} {{ 'aé'.replace('', '-') }} {{ 123 | replace(2, 'x') }} "
       "{{ ', '.join(['a', 'b']) }} {{ ['a', 1, none] | join('-') }} {{ "
       "'a\\nb\\r\\nc'.splitlines() }}",
       "bba -a-é- 1x3 a, b a-1-None ['a', 'b', 'c']"},
      {"{{ '  x ' | trim }}| {{ 'xyx' | trim('x') }} {{ 'é🙂' | length }} {{ {} | length }} {{ "
       "nope | length }} {{ -5 | abs }} {{ 2 * 3 | string }} {{ ('a' + 'b') | upper }}",
       "x| y 2 0 0 5 33 AB"},
      {"{{ nope }}|{{ nope | default('d') }} {{ '' | default('d') }}| {{ '' | default('d', true) "
       "}} {{ none | default('x') }} {{ nope is defined }} {{ nope ~ 'x' }} {{ nope == nope2 }} {{ "
       "'a' in nope }} {% for x in nope %}y{% else %}e{% endfor %}",
       "|d | d None False x True False e"},
      {"{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ {'b': 1, 'A': 2} | dictsort }} {{ "
       "[3, 1] | min }} {{ ['b', 'A'] | max }} {{ [1, 1, 'a', 'A'] | unique | list }} {{ [1, 2, 3] "
       "| sum }}",
       "[1, 2, 3] ['A', 'b', 'c'] [('A', 2), ('b', 1)] 1 b [1, 'a'] 6"},
      {"{{ [1, 2, 3] | first }} {{ 'abc' | last }} {{ [1, 2] | reverse | list }} {{ 'abc' | "
       "reverse }} {{ {'a': 1} | items | list }} {{ {'a': 1}.items() | list }} {{ {'a': "
       "1}.get('b', 7) }} {{ {'a': 1}.keys() | list }}",
       "1 c [2, 1] cba [('a', 1)] [('a', 1)] 7 ['a']"},
      {"{{ [1, 2, 3, 4] | select('even') | list }} {{ [0, 1, ''] | select | list }} {{ [{'r': 'u', "
       "'x': 1}, {'r': 's'}] | selectattr('r', 'equalto', 'u') | list }} {{ [{'r': 'u'}, {'r': "
       "'s'}] | rejectattr('r', 'eq', 'u') | map(attribute='r') | list }} {{ none | "
       "selectattr('x') | list }}",
       "[2, 4] [1] [{'r': 'u', 'x': 1}] ['s'] []"},
      {"{{ ['a', 'b'] | map('upper') | join }} {{ [{'r': 1}, {}] | map(attribute='r', default=9) | "
       "list }} {{ [{'a': {'b': [1, 2]}}] | map(attribute='a.b.1') | list }}",
       "AB [1, 9] [2]"},
      {"{{ '42' | int }} {{ '4.7' | int }} {{ 'x' | int(5) }} {{ -4.7 | int }} {{ '1.5' | float }} "
       "{{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ 2.1 | round(0, 'ceil') }}",
       "42 4 5 -4 1.5 2.0 3.14 3.0"},
      {"{{ {'a': [1, 2.5, none, true, 'é\"\\n\\x01'], 'b': {}} | tojson }} {{ [1, [2, {'x': []}]] "
       "| tojson(indent=2) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ 'é🙂' | "
       "tojson(ensure_ascii=true) }} {{ {1: 2, none: 3} | tojson(separators=(',', ':')) }}",
       "{\"a\": [1, 2.5, null, true, \"é\\\"\\n\\u0001\"], \"b\": {}} [\n  1,\n  [\n    2,\n    "
       "{\n      \"x\": []\n    }\n  ]\n] {\"a\": 2, \"b\": 1} \"\\u00e9\\ud83d\\ude42\" "
       "{\"1\":2,\"null\":3}"},
      {"{{ 'a\\nb\\n\\nc' | indent(2) }}|{{ 'a\\nb' | indent('> ', true) }}",
       "a\n  b\n\n  c|> a\n> b"},
      {"{{ 3 is odd }} {{ 9 is divisibleby 3 }} {{ 'x' is string }} {{ true is number }} {{ true "
       "is integer }} {{ {} is mapping }} {{ 'x' is iterable }} {{ 1 is iterable }} {{ none is "
       "none }} {{ 1 is true }} {{ 'a' is in 'abc' }} {{ 3 is not gt 2 }} {{ none is sameas none "
       "}}",
       "True True True True False True True False True False True False True"},
      {"{{ range(3) | list }} {{ range(10, 0, -3) | list }} {{ dict({'a': 1}, b=2) }} {{ "
       "strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M %A') }}",
       "[0, 1, 2] [10, 7, 4, 1] {'a': 1, 'b': 2} 03 Jul 2024 2024-07-03 09:46 Wednesday"},
      {"{% set x = 1 %}{% for i in [1, 2] %}{% set x = 9 %}{{ x }}{% endfor %}{{ x }} {% set a, b "
       "= 1, 2 %}{{ b }}{{ a }} {% set t = 1, %}{{ t }}",
       "991 21 (1,)"},
      {"{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% set ns.b = "
       "true %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns.nope }}|",
       "4 True |"},
      {"{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ "
       "loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ "
       "loop.nextitem }}{{ loop.cycle('x', 'y') }};{% endfor %}",
       "1032TrueFalse31x;2121FalseFalse302y;3210FalseTrue31x;"},
      {"{% for i in range(5) if i is odd %}{{ i }}/{{ loop.length }} {% endfor %}{% for k, v in "
       "{'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a "
       "}}{{ b }}{{ c }}{% endfor %}{% for x in [] %}n{% else %}empty{% endfor %}",
       "1/2 3/2 a=1123empty"},
      {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break "
       "%}{% endif %}{{ i }}{% endfor %} {% for x in 'ab' %}{{ x }}.{% endfor %}{% for x in {'q': "
       "1} %}{{ x }}{% endfor %}{% for x in 1, 2 %}{{ x }}{% endfor %}",
       "0134 a.b.q12"},
      {"{% macro m(a, b=2, c='x' ~ a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) "
       "}}{{ m(a=5, c=0) }}{{ m() }}{{ m(1) | length }}",
       "[12x1][13x1][520][2x]6"},
      {"{% macro rec(n) %}{{ n }}{% if n > 0 %}{{ rec(n - 1) }}{% endif %}{% endmacro %}{{ rec(5) "
       "}} {% set o = 'o' %}{% macro see() %}{{ o }}{{ later }}{% endmacro %}{% set later = 'L' "
       "%}{% for o in ['inner'] %}{{ see() }}{% endfor %}",
       "543210 oL"},
      {"{% set b %}text {{ 1 + 1 }}{% endset %}{{ b }}{% set u | upper | replace('A', 'b') %}aa{% "
       "endset %}{{ u }}{% filter upper %}shout{% endfilter %}{% with a = 1 %}{{ a }}{% endwith "
       "%}{{ a }}{% generation %}gen{% endgeneration %}",
       "text 2bbSHOUT1gen"},
      {"{{ {'items': 5}['items'] }} {{ {'items': 5}.items is callable }} {{ {'a': {'b': 1}}.a.b }} "
       "{{ none.foo }}| {{ 5.foo }}| {{ {'a': 1}.b is defined }}",
       "5 True 1 | | False"},
      {"{{ bos_token }} {{ eos_token }} {{ add_generation_prompt }} {{ tools is none }} {{ "
       "pad_token is defined }} {{ messages | length }} {{ messages[-1].content }} {{ messages | "
       "map(attribute='role') | join(',') }}",
       "<s> </s> True True False 2 What is 2+2? system,user"},
  };
  ExpectRendered(kCases);
}

TEST(TemplateLanguageTest, Whitespace) {
  static constexpr Case kCases[] = {
      {"  {% if true %}\n    kept\n  {% endif %}\n  {# c #}\nx {% if true %}y{% endif %} z\n",
       "    kept\nx y z"},
      {"  {%+ if true +%}\n a\n  {%+ endif %}\nz", "  \n a\n  z"},
      {"{{ 1 }}\n{{ 2 }}\n\n", "1\n2\n"},
      {"a\r\nb\rc\n", "a\nb\nc"},
      {"{% if true %}\r\n  x\r\n{% endif %}\r\ny", "  x\ny"},
      {"{# c #}\n\nx", "\nx"},
      {"\t{%- if true %} \n x{% endif %}", " \n x"},
      {"x  {%- if true -%}  \n\n y {%- endif %}\n", "xy"},
      {"{% raw %}\n  {{ a }}\n  {% endraw %}\n b", "\n  {{ a }}\n b"},
      {"{%- raw -%}  {% x %}  {%- endraw -%}  y", "{% x %}y"},
      {"{% set x %}\n  a\n{% endset %}[{{ x }}]", "[  a\n]"},
      {"{{ 'a' -}}   \n  b {{- 'c' }}", "abc"},
      {"x{{-'a'}}{{ 1 -1 }}{{ {'a':{'b':{}}} }}{{ '}}' }}{% set x = '%}' %}{{ x }}",
       "xa0{'a': {'b': {}}}}}%}"},
      {"x\n\u3000{% if true %}b{% endif %}", "x\nb"},
      {"{#- a -#}\n\n b  {#+ x +#}\n c", "b  \n c"},
  };
  ExpectRendered(kCases);
}

// {template, part of the message}
TEST(TemplateLanguageTest, WhatIsNoTemplateIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ 1 +", "without its end }}"},
      {"a\n{{ 1 +\n }}", "line 3: expected an expression, found }}"},
      {"{% for x in [1] %}", "ends before {% endfor %}"},
      {"{% if 1 %}{% endfor %}", "unexpected {% endfor %}"},
      {"{% endif %}", "unexpected {% endif %}"},
      {"{{ 'open }}", "a string without its end"},
      {"{# open", "a comment {# without its end #}"},
      {"{% raw %}x", "{% raw %} without {% endraw %}"},
      {"{{ a b }}", "expected }}, found 'b'"},
      {"{{ [1) }}", "unexpected ')'"},
      {"{{ 1 ! 2 }}", "unexpected character '!'"},
      {"{{ 1 é 2 }}", "unexpected character 'é'"},
      {"{{ a. }}", "expected a name"},
      {"{{ a[] }}", "nothing between [ and ]"},
      {"{% set none = 2 %}", "can't assign to none"},
      {"{% break %}", "'break' outside of a loop"},
      {"{% macro m(a=1, b) %}{% endmacro %}", "a parameter without default"},
      {"{{ f(a=1, 2) }}", "an argument without name"},
      {"{{ x is string is string }}", ""},
      {"{{ '\\ud83d' }}", "no character"},
  };
  for (const auto& [source, message] : cases) {
    const absl::Status status = ChatTemplate::Parse(source, "", "").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line ")) << source;
  }
}

TEST(TemplateLanguageTest, WhatIsNotSupportedIsNamedWhenParsed) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n{{ 'a' | center }}", "line 2: the filter 'center' is not supported"},
      {"{{ 'a' is escaped }}", "the test 'escaped'"},
      {"{% include 'x' %}", "the statement 'include'"},
      {"{% block b %}{% endblock %}", "the statement 'block'"},
      {"{% call m() %}{% endcall %}", "the statement 'call'"},
      {"{% for x in y recursive %}{% endfor %}", "a recursive loop"},
      {"{% for x in y %}{% macro m() %}{% endmacro %}{% endfor %}", "a macro inside"},
      {"{% macro m() %}{{ varargs }}{% endmacro %}", "'varargs'"},
      {"{{ f(*x) }}", "unpacking of arguments"},
      {"{{ joiner(',') }}", "'joiner'"},
      {"{{ x[1, 2] }}", "an index with a comma"},
      {"{{ 99999999999999999999 }}", "beyond 64 bits"},
      {"{{ '\\N{BULLET}' }}", "the string escape \\N"},
  };
  for (const auto& [source, message] : cases) {
    const absl::Status status = ChatTemplate::Parse(source, "", "").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << source << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << source;
  }
}

TEST(TemplateLanguageTest, FailuresWhileRenderingNameTheirCause) {
  using absl::StatusCode;
  const std::tuple<const char*, StatusCode, const char*> cases[] = {
      {"\n\n{{ nope.x }}", StatusCode::kInvalidArgument, "line 3: 'nope' is undefined"},
      {"{{ messages.foo.bar }}", StatusCode::kInvalidArgument, "has no attribute 'foo'"},
      {"{{ nope() }}", StatusCode::kInvalidArgument, "'nope' is undefined"},
      {"{{ 'a' + 1 }}", StatusCode::kInvalidArgument, "can't compute 'str' + 'int'"},
      {"{{ nope + 'a' }}", StatusCode::kInvalidArgument, "'nope' is undefined"},
      {"{{ 1 < 'a' }}", StatusCode::kInvalidArgument, "no order between 'int' and 'str'"},
      {"{{ 1 in 5 }}", StatusCode::kInvalidArgument, "'int' is not a container"},
      {"{{ 1 // 0 }}", StatusCode::kInvalidArgument, "division by zero"},
      {"{% for x in none %}{% endfor %}", StatusCode::kInvalidArgument, "not iterable"},
      {"{% for a, b in [1] %}{% endfor %}", StatusCode::kInvalidArgument, "not iterable"},
      {"{% set a, b = [1] %}", StatusCode::kInvalidArgument, "1 values for 2 variables"},
      {"{% set x = {} %}{% set x.y = 1 %}", StatusCode::kInvalidArgument, "not a namespace"},
      {"{{ {[]: 1} }}", StatusCode::kInvalidArgument, "unhashable type: 'list'"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", StatusCode::kInvalidArgument,
       "not more than 1"},
      {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", StatusCode::kInvalidArgument,
       "no keyword argument 'b'"},
      {"{{ 'a' | replace('b') }}", StatusCode::kInvalidArgument, "'new' is missing"},
      {"{{ 'a' | trim(1, 2) }}", StatusCode::kInvalidArgument, "2 arguments given"},
      {"{{ nope | tojson }}", StatusCode::kInvalidArgument, "no JSON form"},
      {"{{ messages.append(1) }}", StatusCode::kUnimplemented, "the method 'append'"},
      {"{{ 'a'.zfill(3) }}", StatusCode::kUnimplemented, "the method 'zfill'"},
      {"{{ '%s' % 'a' }}", StatusCode::kUnimplemented, "formatting a string with %"},
      {"{{ [1] | map('center') | list }}", StatusCode::kUnimplemented, "the filter 'center'"},
      {"{{ strftime_now('%Q') }}", StatusCode::kUnimplemented, "'%Q'"},
      {"{{ 9223372036854775807 + 1 }}", StatusCode::kInvalidArgument, "beyond 64 bits"},
  };
  for (const auto& [source, code, message] : cases) {
    EXPECT_TRUE(ChatTemplate::Parse(source, "", "").ok()) << source;
    const absl::Status status = Failure(source);
    EXPECT_EQ(status.code(), code) << source << " " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << source;
  }
}

}  // namespace
}  // namespace lorc
