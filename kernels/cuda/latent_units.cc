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

bool DealUnits(const UnitPlan* units, int count, bool single_run, int shares, int most,
               WarpShare* dealt) {
  for (int share = 0; share < shares; ++share) {
    WarpShare& to = dealt[share];
    to = WarpShare{};
    const int begin = count * share / shares;
    const int end = count * (share + 1) / shares;
    if (end - begin > std::min(most, kMaxWarpUnits)) return false;
    // Stretches in the order of memory: codes of units, and the scales of their segments once.
    std::vector<Span> pieces;
    const auto add = [&pieces](int32_t offset, int32_t bytes) {
      for (const Span& piece : pieces) {
        if (piece.offset == offset) return;
      }
      pieces.push_back({offset, bytes, 0, bytes});
    };
    for (int u = begin; u < end; ++u) {
      add(units[u].code_offset, units[u].run_stride);
      if (HasScales(units[u].type)) add(units[u].scale_offset, 64);
    }
    std::sort(pieces.begin(), pieces.end(),
              [](const Span& a, const Span& b) { return a.offset < b.offset; });
    // With more than one run per block, pieces are never side by side for every run.
    int spans = 0;
    for (Span& piece : pieces) {
      piece.stage = to.run_bytes;
      to.run_bytes += piece.bytes;
      Span* last = spans == 0 ? nullptr : &to.span[spans - 1];
      if (last != nullptr && single_run && last->offset + last->bytes == piece.offset) {
        last->bytes += piece.bytes;
      } else {
        to.span[spans++] = piece;
      }
    }
    const auto staged = [&pieces](int32_t offset) {
      for (const Span& piece : pieces) {
        if (piece.offset == offset) return static_cast<uint32_t>(piece.stage / 16);
      }
      return 0u;
    };
    for (int u = begin; u < end; ++u) {
      const UnitPlan& unit = units[u];
      const uint32_t scales = HasScales(unit.type) ? staged(unit.scale_offset) : 0;
      to.unit[u - begin].bits = staged(unit.code_offset) | scales << 12 |
                                static_cast<uint32_t>(unit.type) << 24 |
                                static_cast<uint32_t>(unit.width / 16) << 27;
      to.unit_index[u - begin] = static_cast<uint8_t>(unit.index);
      to.column[u - begin] = unit.column;
    }
  }
  return true;
}

}  // namespace lorc::cuda
