// Python's arithmetic. Integers have 64 bits; what does not fit fails the render.
#pragma once

#include <optional>
#include <string_view>

#include "service/chat_template/render_context.h"
#include "service/chat_template/value.h"

namespace lorc::jinja {

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower
};

// `a op b`: numbers; also strings and lists added, and repeated by an integer.
Value Compute(RenderContext& context, Operator op, const Value& a, const Value& b);

Value Negate(RenderContext& context, const Value& value);

// Python's int(text) and float(text): space around, a sign, single underscores between digits.
// Nothing if it is no such number, or an integer beyond 64 bits.
std::optional<int64_t> ParseInteger(std::string_view text);
std::optional<double> ParseFloat(std::string_view text);

}  // namespace lorc::jinja
