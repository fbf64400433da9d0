// What Hugging Face's tokenizers and transformers make of some texts and chats with SmolLM2-135M-
// Instruct.
#pragma once

#include <string>
#include <vector>

#include "runtime/sampling/sampling_params.h"
#include "service/chat_template/chat_template.h"

namespace lorc {

struct TextGolden {
  std::string text;
  bool parse_special;
  std::vector<TokenId> ids;
};

// Rendered with the generation prompt; special tokens parsed.
struct ChatGolden {
  std::vector<ChatMessage> messages;
  std::string rendered;
  std::vector<TokenId> ids;
};

inline const std::vector<TextGolden>& TextGoldens() {
  static const std::vector<TextGolden> goldens = {
      {"Once upon a time, in a small village by the sea,",
       true,
       {6403, 1980, 253, 655, 28, 281, 253, 1165, 6560, 411, 260, 3426, 28}},
      {"def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
       true,
       {1604, 3987, 46477, 24, 94, 727, 472, 1620, 14362, 260, 304, 29, 373, 24681, 46477, 1230,
        7996, 198}},
      {"1, 2, 3, 5, 8, 13, 21, 34,", true, {33,  28, 216, 34, 28,  216, 35, 28, 216,
                                            37,  28, 216, 40, 28,  216, 33, 35, 28,
                                            216, 34, 33,  28, 216, 35,  36, 28}},
      {"Zürich – naïve café, 東京 and Санкт-Петербург 🙂\t  end\r\n\n  ",
       true,
       {74,    7170,  5130,  816,   15486, 46494, 37366, 28,  17097, 247, 126,
        16736, 122,   284,   45564, 29929, 13760, 8355,  29,  155,   249, 32547,
        29668, 27714, 14714, 9175,  29441, 47526, 197,   216, 1112,  201, 39892}},
      {"The", true, {504}},
      {"It's 2024's best: we'll see, they've \"I'd\" said.",
       true,
       {1589, 506, 216, 34,  32,   34,  36, 506,  1450, 42,   392,
        3060, 963, 28,  502, 3543, 476, 57, 6737, 18,   1137, 30}},
      {"a  b   c\t\td \n\n e\r\n\r\nf   ",
       true,
       {81, 216, 278, 256, 265, 197, 197, 84, 38028, 297, 7209, 198, 86, 333}},
      {"x1 22 333 4444 5.5e-10 Ⅷ² ٣٤ ½",
       true,
       {104, 33, 216, 34, 34, 216, 35,  35,  35,  216,   36,  36,  36,  36,  216, 37,  30,
        37,  85, 29,  33, 32, 216, 173, 223, 117, 19133, 216, 164, 113, 164, 114, 216, 16738}},
      {"<|im_start|>user<|im_end|><repo_name><reponame><|im_start",
       true,
       {1, 4093, 2, 3, 4, 44, 108, 306, 79, 3738}},
      {"naïve café ŒUVRE ß ǅ ﬁ",
       true,
       {3546, 46494, 37366, 18811, 236, 19539, 3256, 5549, 249, 216, 146, 223, 40367}},
      {"한국어 中文 日本語 ไทย עברית العربية हिन्दी",
       true,
       {33085, 246,   181,   130,   251,   183,   240,   129,   216,   28589, 29184,
        17097, 241,   115,   40993, 179,   120,   248,   216,   31933, 222,   10283,
        241,   10283, 112,   12960, 112,   37657, 30825, 28532, 120,   27819, 34966,
        20602, 31462, 23339, 43463, 12335, 134,   27011, 30658, 16525, 44757, 37189}},
      {"👩‍👩‍👧‍👦 🇩🇪 ✅️",
       true,
       {10813, 235,   119, 321, 231,   10813, 235, 119,   321, 231, 10813, 235, 117, 321,
        231,   10813, 235, 116, 15107, 225,   119, 10813, 225, 120, 4636,  246, 223, 31752}},
      {"\u00a0\u2003\u3000\u200b﻿\u0085x",
       true,
       {15442, 321, 221, 12109, 218, 321, 229, 186, 136, 140, 141, 223, 104}},
      {std::string("no \004 token \006 for \026 these\000", 25),
       true,
       {4607, 216, 9624, 216, 327, 216, 623, 190}},
      {"HTTPServer::handle_request(const std::string& s) { return s[0] == '\\'' ? 1 : -1; }",
       true,
       {8049,  33635, 10740, 9533, 16493, 79,   6296, 24, 4794, 17226, 9533,
        5931,  22,    262,   25,   1662,  1003, 262,  75, 32,   77,    1758,
        16486, 3816,  9148,  216,  33,    1577, 731,  33, 43,   4029}},
      {"<|im_start|>user<|im_end|>",
       false,
       {44, 108, 306, 79, 3738, 108, 46, 4093, 44, 108, 306, 79, 486, 108, 46}},
  };
  return goldens;
}

inline const std::vector<ChatGolden>& ChatGoldens() {
  static const std::vector<ChatGolden> goldens = {
      {{{"user", "What is the capital of France?"}},
       "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
       "Face<|im_end|>\n<|im_start|>user\nWhat is the capital of "
       "France?<|im_end|>\n<|im_start|>assistant\n",
       {1,   9690, 198, 2683, 359,   253,  5356, 5646, 11173, 3365, 3511, 308,  34519,
        28,  7018, 411, 407,  19712, 8182, 2,    198,  1,     4093, 198,  1780, 314,
        260, 3575, 282, 4649, 47,    2,    198,  1,    520,   9531, 198}},
      {{{"system", "Answer in one short sentence."}, {"user", "Why is the sky blue?"}},
       "<|im_start|>system\nAnswer in one short sentence.<|im_end|>\n<|im_start|>user\nWhy is the "
       "sky blue?<|im_end|>\n<|im_start|>assistant\n",
       {1,   9690, 198, 21350, 281,  582,  1890, 6330, 30,  2, 198, 1,    4093,
        198, 4898, 314, 260,   6376, 4461, 47,   2,    198, 1, 520, 9531, 198}},
      {{{"user", "Hi <|im_end|> 日本"}, {"assistant", "Hello!"}, {"user", "  bye\n"}},
       "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
       "Face<|im_end|>\n<|im_start|>user\nHi <|im_end|> "
       "日本<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n  "
       "bye\n<|im_end|>\n<|im_start|>assistant\n",
       {1,    9690, 198,   2683,  359,  253, 5356, 5646, 11173, 3365,  3511,  308, 34519, 28,
        7018, 411,  407,   19712, 8182, 2,   198,  1,    4093,  198,   26843, 216, 2,     17097,
        241,  115,  40993, 2,     198,  1,   520,  9531, 198,   19556, 17,    2,   198,   1,
        4093, 3805, 411,   85,    198,  2,   198,  1,    520,   9531,  198}},
  };
  return goldens;
}

}  // namespace lorc
