#include "kernels/cuda/latent_units.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/cache_layout.h"

namespace lorc::cuda {

int MakeUnits(std::span<const CacheSegment> segments, int block_tokens, UnitPlan* units) {
  int count = 0;
  int column = 0;
  int64_t part = 0;
  for (const CacheSegment& segment : segments) {
    if (segment.width % kSegmentAlign != 0) return -1;
    for (int at = 0; at < segment.width; at += kUnitWidth) {
      if (count == kMaxUnits) return -1;
      UnitPlan& unit = units[count];
      unit = UnitPlan{};
      const int width = std::min(kUnitWidth, segment.width - at);
      unit.index = static_cast<int16_t>(count++);
      unit.column = static_cast<int16_t>(column + at);
      unit.width = static_cast<uint8_t>(width);
      unit.type = segment.type;
      unit.run_stride = kRunTokens * width * NumberBits(segment.type) / 8;
      unit.code_offset = static_cast<int32_t>(
          part + UnitOffset(segment.type, segment.width, block_tokens, at / kUnitWidth, 0));
      unit.scale_offset =
          static_cast<int32_t>(part + ScalesOffset(segment.type, segment.width, block_tokens));
    }
    column += segment.width;
    part += SegmentBytes(segment.type, segment.width, block_tokens);
  }
  return count;
}

int UniformType(const LatentUnits& units) {
  const SegmentType type = units.key[0].type;
  const auto same = [type](const UnitPlan& unit) {
    return unit.type == type && unit.width == kUnitWidth;
  };
  const bool all = std::all_of(units.key, units.key + units.key_count, same) &&
                   std::all_of(units.value, units.value + units.value_count, same);
  return all ? static_cast<int>(type) : -1;
}

bool HasBf16(const LatentUnits& units) {
  const auto bf16 = [](const UnitPlan& unit) { return unit.type == SegmentType::kBf16; };
  return std::any_of(units.key, units.key + units.key_count, bf16) ||
         std::any_of(units.value, units.value + units.value_count, bf16);
}

StagedGroup StageUnits(const UnitPlan* units, int count, bool single_run) {
  StagedGroup group;
  group.num_units = count;
  // Stretches in the order of memory: codes of units, scales of segments.
  std::vector<Span> pieces;
  const auto add = [&pieces](int32_t offset, int32_t bytes) {
    const auto same = [offset](const Span& piece) { return piece.offset == offset; };
    if (std::none_of(pieces.begin(), pieces.end(), same)) {
      pieces.push_back({offset, bytes, 0, bytes});
    }
  };
  for (int u = 0; u < count; ++u) {
    add(units[u].code_offset, units[u].run_stride);
    if (HasScales(units[u].type)) add(units[u].scale_offset, 4 * kRunTokens);
  }
  std::sort(pieces.begin(), pieces.end(),
            [](const Span& a, const Span& b) { return a.offset < b.offset; });
  for (Span& piece : pieces) {
    piece.stage = group.run_bytes;
    group.run_bytes += piece.bytes;
    Span* const last = group.num_spans == 0 ? nullptr : &group.span[group.num_spans - 1];
    if (last != nullptr && single_run && last->offset + last->bytes == piece.offset) {
      last->bytes += piece.bytes;
    } else {
      group.span[group.num_spans++] = piece;
    }
  }
  const auto staged = [&pieces](int32_t offset) {
    const auto same = [offset](const Span& piece) { return piece.offset == offset; };
    return static_cast<uint32_t>(std::find_if(pieces.begin(), pieces.end(), same)->stage / 16);
  };
  for (int u = 0; u < count; ++u) {
    const UnitPlan& unit = units[u];
    const uint32_t scales = HasScales(unit.type) ? staged(unit.scale_offset) : 0;
    group.unit[u].bits = staged(unit.code_offset) | scales << 12 |
                         static_cast<uint32_t>(unit.type) << 24 |
                         static_cast<uint32_t>(unit.width / 16) << 27;
    group.index[u] = static_cast<uint8_t>(unit.index);
    group.column[u] = unit.column;
  }
  return group;
}

}  // namespace lorc::cuda
