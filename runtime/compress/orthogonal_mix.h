// A fixed orthogonal map inside a quantised segment, folded into the bases: afterwards the
// segment's numbers have (nearly) one variance and bell-shaped distributions, so that one scale
// serves them all. It changes no inner product, and none of what an unquantised cache gives.
#pragma once

#include <cstdint>
#include <vector>

namespace lorc {

// [width, width], row-major, the same for the same arguments: random signs, then Hadamard's matrix
// of the largest power of two in `width`, by Kronecker product with Hartley's of the odd rest.
std::vector<double> OrthogonalMix(int32_t width, uint64_t seed);

}  // namespace lorc
