// Templates in the idioms of those in use. Expected texts are those of transformers 5.23 (Jinja
// 3.1.6).
#include "service/chat_template/chat_template.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/text/render.h"

namespace lorc {
namespace {

TEST(ChatTemplateTest, ChatMlWithDefaultSystem) {
  const ChatTemplate chat_template = Parse(
      R"jinja({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|begin|>system
Be kind.<|stop|>
' }}{% endif %}{{ '<|begin|>' + message['role'] + '
' + message['content'] + '<|stop|>' + '
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant
' }}{% endif %})jinja");
  EXPECT_EQ(Rendered(chat_template, {{"user", "Hi"}}, true),
            "<|begin|>system\nBe kind.<|stop|>\n<|begin|>user\nHi<|stop|>\n<|begin|>assistant\n");
  EXPECT_EQ(Rendered(chat_template, {{"user", "Hi"}}, false),
            "<|begin|>system\nBe kind.<|stop|>\n<|begin|>user\nHi<|stop|>\n");
  EXPECT_EQ(
      Rendered(chat_template,
               {{"system", "Sys"}, {"user", "日本 🙂"}, {"assistant", "ok"}, {"user", "b"}},
               true),
      "<|begin|>system\nSys<|stop|>\n<|begin|>user\n日本 "
      "🙂<|stop|>\n<|begin|>assistant\nok<|stop|>\n<|begin|>user\nb<|stop|>\n<|begin|>"
      "assistant\n");
}

TEST(ChatTemplateTest, InstWithSystemInside) {
  const ChatTemplate chat_template = Parse(
      R"jinja({% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate: user, assistant, user, ...') }}{% endif %}{% if loop.index0 == 0 and sys != false %}{% set text = '<<S>>\n' + sys + '\n<</S>>\n\n' + m['content'] %}{% else %}{% set text = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[I] ' + text.strip() + ' [/I]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %})jinja");
  EXPECT_EQ(
      Rendered(chat_template,
               {{"system", "Sys"}, {"user", " a "}, {"assistant", " b\n"}, {"user", "c"}}, true),
      "<s>[I] <<S>>\nSys\n<</S>>\n\n a [/I] b </s><s>[I] c [/I]");
  EXPECT_EQ(
      Rendered(chat_template,
               {{"system", "Sys"}, {"user", " a "}, {"assistant", " b\n"}, {"user", "c"}}, false),
      "<s>[I] <<S>>\nSys\n<</S>>\n\n a [/I] b </s><s>[I] c [/I]");
  EXPECT_EQ(Rendered(chat_template, {{"user", "a"}, {"assistant", "b"}}, true),
            "<s>[I] a [/I] b </s>");
}

TEST(ChatTemplateTest, HeadersWithDate) {
  const ChatTemplate chat_template = Parse(R"jinja({{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2000" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message comes out of the list #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<head>system</head>\n\n" }}
{%- if tools is not none %}
    {{- "Tools: " ~ tools | tojson(indent=4) }}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<eot>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<head>' + message['role'] + '</head>\n\n'+ message['content'] | trim + '<eot>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time") }}
        {%- endif %}
    {%- else %}
        {{- "<head>ipython</head>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<eot>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<head>assistant</head>\n\n' }}
{%- endif %}
)jinja");
  EXPECT_EQ(Rendered(chat_template, {{"user", " Hi "}}, true),
            "<s><head>system</head>\n\nToday: 03 Jul "
            "2024\n\n<eot><head>user</head>\n\nHi<eot><head>assistant</head>\n\n");
  EXPECT_EQ(Rendered(chat_template, {{"user", " Hi "}}, false),
            "<s><head>system</head>\n\nToday: 03 Jul 2024\n\n<eot><head>user</head>\n\nHi<eot>");
  EXPECT_EQ(
      Rendered(
          chat_template,
          {{"system", " Sys\n"}, {"user", "a"}, {"assistant", "b"}, {"tool", "{\"x\": \"é\n\"}"}},
          true),
      "<s><head>system</head>\n\nToday: 03 Jul "
      "2024\n\nSys<eot><head>user</head>\n\na<eot><head>assistant</head>\n\nb<eot><head>ipython</"
      "head>\n\n\"{\\\"x\\\": \\\"é\\n\\\"}\"<eot><head>assistant</head>\n\n");
}

TEST(ChatTemplateTest, ZephyrLines) {
  const ChatTemplate chat_template = Parse(R"jinja({% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %})jinja");
  EXPECT_EQ(Rendered(chat_template,
                     {{"system", "Sys"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}}, true),
            "<|system|>\nSys</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</"
            "s>\n<|assistant|>\n");
  EXPECT_EQ(Rendered(chat_template,
                     {{"system", "Sys"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}}, false),
            "<|system|>\nSys</s>\n<|user|>\na</s>\n<|assistant|>\nb</s>\n<|user|>\nc</s>\n");
}

TEST(ChatTemplateTest, ModelTurns) {
  const ChatTemplate chat_template = Parse(
      R"jinja({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role here') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<turn>' + role + '
' + message['content'] | trim + '<end>
' }}{% endfor %}{% if add_generation_prompt %}{{'<turn>model
'}}{% endif %})jinja");
  EXPECT_EQ(Rendered(chat_template, {{"user", "a\n"}, {"assistant", " b"}, {"user", "c"}}, true),
            "<s><turn>user\na<end>\n<turn>model\nb<end>\n<turn>user\nc<end>\n<turn>model\n");
  EXPECT_EQ(Rendered(chat_template, {{"user", "a\n"}, {"assistant", " b"}, {"user", "c"}}, false),
            "<s><turn>user\na<end>\n<turn>model\nb<end>\n<turn>user\nc<end>\n");
}

TEST(ChatTemplateTest, NamespaceCountsTurns) {
  const ChatTemplate chat_template = Parse(R"jinja({%- set ns = namespace(index=0, last=-1) %}
{%- set loop_messages = messages %}
{%- for m in messages if m.role == "user" %}{% set ns.last = loop.index0 %}{% endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user" or (message.role == "assistant" and message.tool_calls is not defined)) %}
        {%- if ["user", "assistant"][ns.index % 2] != message.role %}
            {{- raise_exception("Roles must alternate after the optional system message") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
    {%- if message.role == "user" %}
        {%- if loop.last and ns.last >= 1 %}{{- "(again)" }}{%- endif %}
        {{- "[I]" + message.content + "[/I]" }}
    {%- else %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- endif %}
{%- endfor %}
)jinja");
  EXPECT_EQ(Rendered(chat_template, {{"user", "a"}, {"assistant", " b "}, {"user", "c"}}, true),
            "<s>[I]a[/I] b</s>(again)[I]c[/I]");
  EXPECT_EQ(Rendered(chat_template, {{"user", "a"}, {"assistant", " b "}, {"user", "c"}}, false),
            "<s>[I]a[/I] b</s>(again)[I]c[/I]");
}

TEST(ChatTemplateTest, ReasoningIsCutOff) {
  const ChatTemplate chat_template = Parse(
      R"jinja({%- set ns = namespace(is_first=true, last_query=messages|length - 1, seeking=true) -%}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.seeking and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.seeking = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query and (loop.last or (not loop.last and reasoning)) %}
            {{- '<A><think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<A>' + content }}
        {%- endif %}
        {{- eos_token }}
    {%- elif message.role == 'user' %}
        {{- '<U>' ~ content }}
        {%- if loop.nextitem is defined and loop.nextitem.role == 'user' %}{{ '+' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<A>' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{% endif %})jinja");
  EXPECT_EQ(Rendered(chat_template,
                     {{"user", "q"},
                      {"assistant", "<think>\nwhy\n</think>\n\nbecause"},
                      {"user", "<tool>t</tool>"}},
                     true),
            "<U>q<A><think>\nwhy\n</think>\n\nbecause</s><U><tool>t</tool><A>");
  EXPECT_EQ(Rendered(chat_template,
                     {{"user", "q"},
                      {"assistant", "<think>\nwhy\n</think>\n\nbecause"},
                      {"user", "<tool>t</tool>"}},
                     false),
            "<U>q<A><think>\nwhy\n</think>\n\nbecause</s><U><tool>t</tool>");
  EXPECT_EQ(Rendered(chat_template,
                     {{"user", "q"},
                      {"assistant", "<think>\nw1\n</think>\n\na1"},
                      {"user", "r"},
                      {"user", "s"},
                      {"assistant", "<think>w2</think>a2"}},
                     true),
            "<U>q<A>a1</s><U>r+<U>s<A><think>\nw2\n</think>\n\na2</s><A>");
}

TEST(ChatTemplateTest, MacroPrintsParts) {
  const ChatTemplate chat_template = Parse(R"jinja({%- macro part(kind, text, last=false) -%}
    {{- '<' ~ kind ~ '>' -}}
    {%- for line in text.split('\n') if line -%}
        {{- loop.index ~ ':' ~ line ~ ('' if loop.last else '|') -}}
    {%- endfor -%}
    {{- '</' ~ kind ~ '>' ~ ('.' if last else '') -}}
{%- endmacro -%}
{%- set roles = {'user': 'U', 'assistant': 'A'} -%}
{%- for m in messages -%}
    {{- part(roles.get(m.role, m.role | upper | first), m.content, last=loop.last) -}}
{%- else -%}
    {{- 'nothing' -}}
{%- endfor -%}
{%- if documents -%}{{ documents | selectattr('title') | map(attribute='title') | join(', ') }}{%- endif -%}
)jinja");
  EXPECT_EQ(Rendered(chat_template, {{"system", "x\n\ny"}, {"user", "a\nb"}}, true),
            "<S>1:x|2:y</S><U>1:a|2:b</U>.");
  EXPECT_EQ(Rendered(chat_template, {{"system", "x\n\ny"}, {"user", "a\nb"}}, false),
            "<S>1:x|2:y</S><U>1:a|2:b</U>.");
  EXPECT_EQ(Rendered(chat_template, {}, true), "nothing");
}

TEST(ChatTemplateTest, TheTemplatesOwnErrorIsPassedOn) {
  const std::string source =
      "{% for m in messages %}\n{% if m.role == 'tool' %}{{ raise_exception('No tools: ' + "
      "m.content) }}{% endif %}{% endfor %}";
  const absl::Status status = Failure(source, {{"user", "a"}, {"tool", "b"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "chat template, line 2: No tools: b");
}

TEST(ChatTemplateTest, EmptyTokensAreUndefined) {
  const auto chat_template =
      ChatTemplate::Parse("{{ bos_token is defined }}{{ bos_token }}{{ eos_token }}", "", "</s>");
  ASSERT_TRUE(chat_template.ok());
  EXPECT_EQ(Rendered(*chat_template, {}, true), "False</s>");
}

TEST(ChatTemplateTest, RendersFromManyThreads) {
  const ChatTemplate chat_template = Parse(
      "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content | length "
      "%}{{ m.content }}{{ ns.n }}{% endfor %}");
  const auto work = [&chat_template](const std::string& text) {
    for (int i = 0; i < 500; ++i) {
      EXPECT_EQ(Rendered(chat_template, {{"user", text}, {"user", "z"}}, true),
                text + std::to_string(text.size()) + "z" + std::to_string(text.size() + 1));
    }
  };
  std::thread other(work, "abc");
  work("defgh");
  other.join();
}

}  // namespace
}  // namespace lorc
