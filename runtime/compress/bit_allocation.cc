#include "runtime/compress/bit_allocation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace lorc {
namespace {

// By rising size. Two bytes per number are as good as exact.
constexpr std::array kTypes = {SegmentType::kInt2, SegmentType::kInt3, SegmentType::kInt4,
                               SegmentType::kInt8, SegmentType::kBf16};

// A segment's choices are indices into kTypes; -1 leaves it out.
struct Segment {
  size_t tensor = 0;
  bool first = false;  // of its tensor: never left out
  int32_t width = 0;
  int32_t groups = 1;
  double gain = 0;
  int choice = -1;

  int64_t Bytes(int type) const {
    return type < 0 ? 0 : groups * CacheSegment{kTypes[type], width}.BytesPerToken();
  }
  double Loss(int type) const { return type < 0 ? gain : gain * QuantiserDistortion(kTypes[type]); }
  int least() const { return first ? 0 : -1; }
};

std::vector<Segment> Cut(std::span<const TensorGains> tensors, int32_t segment_width) {
  std::vector<Segment> segments;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto width = static_cast<int32_t>(tensors[t].gains.size());
    for (int32_t begin = 0; begin < width; begin += segment_width) {
      const int32_t count = std::min(segment_width, width - begin);
      const auto gains = tensors[t].gains.begin() + begin;
      segments.push_back({.tensor = t,
                          .first = begin == 0,
                          .width = count,
                          .groups = tensors[t].groups,
                          .gain = std::accumulate(gains, gains + count, 0.0)});
    }
  }
  return segments;
}

int64_t Bytes(const std::vector<Segment>& segments) {
  int64_t bytes = 0;
  for (const Segment& segment : segments) bytes += segment.Bytes(segment.choice);
  return bytes;
}

// Everywhere the choice with the least loss + price * bytes. Gains fall within a tensor, and so do
// choices: a segment that is left out is followed by none that is kept.
void Choose(double price, std::vector<Segment>& segments) {
  for (Segment& segment : segments) {
    const auto cost = [&](int type) {
      return segment.Loss(type) + price * static_cast<double>(segment.Bytes(type));
    };
    segment.choice = segment.least();
    for (int type = segment.least() + 1; type < std::ssize(kTypes); ++type) {
      if (cost(type) < cost(segment.choice)) segment.choice = type;
    }
  }
}

// What is left of the bytes goes, step by step, where it removes most loss per byte.
void SpendRest(int64_t rest, std::vector<Segment>& segments) {
  while (true) {
    Segment* best = nullptr;
    int best_type = 0;
    double best_rate = 0;
    for (size_t i = 0; i < segments.size(); ++i) {
      Segment& segment = segments[i];
      const bool follows = segment.first || segments[i - 1].choice >= 0;
      if (!follows) continue;
      for (int type = segment.choice + 1; type < std::ssize(kTypes); ++type) {
        const int64_t bytes = segment.Bytes(type) - segment.Bytes(segment.choice);
        if (bytes > rest) break;
        const double rate =
            (segment.Loss(segment.choice) - segment.Loss(type)) / static_cast<double>(bytes);
        if (rate > best_rate) {
          best = &segment;
          best_type = type;
          best_rate = rate;
        }
      }
    }
    if (best == nullptr) return;
    rest -= best->Bytes(best_type) - best->Bytes(best->choice);
    best->choice = best_type;
  }
}

}  // namespace

int64_t LeastBytes(std::span<const TensorGains> tensors, int32_t segment_width) {
  std::vector<Segment> segments = Cut(tensors, segment_width);
  for (Segment& segment : segments) segment.choice = segment.least();
  return Bytes(segments);
}

int64_t MostBytes(std::span<const TensorGains> tensors, int32_t segment_width) {
  std::vector<Segment> segments = Cut(tensors, segment_width);
  for (Segment& segment : segments) segment.choice = std::ssize(kTypes) - 1;
  return Bytes(segments);
}

absl::StatusOr<BitAllocation> AllocateBits(std::span<const TensorGains> tensors,
                                           int32_t segment_width, int64_t bytes_per_token) {
  const int64_t least = LeastBytes(tensors, segment_width);
  if (bytes_per_token < least) {
    return absl::FailedPreconditionError(
        absl::StrCat("--bytes-per-token: expected at least ", least, " for this model and layout (",
                     segment_width, " numbers of 2 bits for each K and V of every layer), got ",
                     bytes_per_token));
  }
  std::vector<Segment> segments = Cut(tensors, segment_width);
  double cheap = 1e-300;
  double dear = 1e300;
  for (int i = 0; i < 200; ++i) {
    const double price = std::sqrt(cheap) * std::sqrt(dear);
    Choose(price, segments);
    (Bytes(segments) > bytes_per_token ? cheap : dear) = price;
  }
  Choose(dear, segments);
  SpendRest(bytes_per_token - Bytes(segments), segments);
  BitAllocation allocation;
  allocation.segments.resize(tensors.size());
  for (const Segment& segment : segments) {
    allocation.loss += segment.Loss(segment.choice);
    allocation.bytes_per_token += segment.Bytes(segment.choice);
    if (segment.choice >= 0) {
      allocation.segments[segment.tensor].push_back({kTypes[segment.choice], segment.width});
    }
  }
  return allocation;
}

}  // namespace lorc
