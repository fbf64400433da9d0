// Loops over rows of floats, as vector code (AVX2 on x86-64, which the CPU backend asks for too).
// Sums run in lanes whose order is fixed.
#pragma once

#include <cstdint>

namespace lorc {

bool AllFinite(const float* x, int64_t count);

// x[0, count) becomes softmax(scale * x), x[count, total) zero; count > 0.
void Softmax(float scale, int64_t count, int64_t total, float* x);
// With p = softmax(scale * x), the gradient by p becomes the one by x; [count, total) zero.
void SoftmaxGradient(float scale, int64_t count, int64_t total, const float* p, float* gradient);

// x becomes e^(x - max x), whose sum it returns; count > 0.
double Exponentials(int64_t count, float* x);

// y = x / rms(x) * gain, rms with epsilon under the root.
void RmsNorm(float epsilon, int64_t width, const float* gain, const float* x, float* y);
// Adds to x_gradient what y_gradient means for x.
void AddRmsNormGradient(float epsilon, int64_t width, const float* gain, const float* x,
                        const float* y_gradient, float* x_gradient);

// out = silu(gate) * up.
void GatedSilu(int64_t count, const float* gate, const float* up, float* out);
// The gradient by out makes of gate and up those by them.
void GatedSiluGradient(int64_t count, const float* out_gradient, float* gate, float* up);

}  // namespace lorc
