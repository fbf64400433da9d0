// What every op means, in plain double precision and without cleverness. For tests only.
#pragma once

#include <cstdint>
#include <vector>

namespace lorc::reference {

// y[t, n] = sum_k x[t, k] w[n, k]; x [T, K], w [N, K].
std::vector<double> Linear(const std::vector<float>& x, const std::vector<float>& w,
                           int64_t num_rows, int64_t columns, int64_t outputs);

// The same sum over |x| |w|: what rounding errors are proportional to.
std::vector<double> LinearMagnitude(const std::vector<float>& x, const std::vector<float>& w,
                                    int64_t num_rows, int64_t columns, int64_t outputs);

std::vector<double> RmsNorm(const std::vector<float>& x, const std::vector<float>& gain,
                            int64_t num_rows, int64_t width, double epsilon);

double LogSumExp(const float* logits, int64_t width);

// Half-split rotation of one head by `position`: pair j is (x[j], x[j + d/2]), angle position *
// inverse_frequency[j].
void Rotate(double* head, int64_t head_dim, double position,
            const std::vector<double>& inverse_frequency);

// Attention of one query head over `num_keys` keys and values of width d: softmax(q k / sqrt(d)) v.
std::vector<double> Attend(const std::vector<double>& query, const std::vector<double>& keys,
                           const std::vector<double>& values, int64_t num_keys, int64_t head_dim);

}  // namespace lorc::reference
