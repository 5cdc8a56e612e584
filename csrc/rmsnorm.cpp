// Root-mean-square normalisation of one row. Relative error of each value below (6 + size / (8 lanes)) * 2^-23, lanes
// being 4 or more: the squares are added up in 4 * lanes sums in float32, and those in float64. Squares overflow to a
// norm of infinity, and so to zeros, where those of kernels/rmsnorm.py do.
#include <cmath>

#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"

namespace apr::APR_ISA {

void rmsnorm(const float* x, const float* weight, float eps, int64_t size, float* out) {
  constexpr int n = 4, step = n * F::lanes;
  F sums[n] = {F::zero(), F::zero(), F::zero(), F::zero()};
  int64_t i = 0;
  for (; i + step <= size; i += step)
    for (int j = 0; j < n; ++j) {
      const F v = F::load(x + i + j * F::lanes);
      sums[j] = fma(v, v, sums[j]);
    }
  for_lanes(size - i, [&](int64_t k, int lanes) {
    const F v = load(x + i + k, lanes);
    sums[0] = fma(v, v, sums[0]);
  });
  float lanes[step];
  for (int j = 0; j < n; ++j) sums[j].store(lanes + j * F::lanes);
  double total = 0;
  for (int j = 0; j < step; ++j) total += lanes[j];

  const float mean_square = float(total / double(size));
  const F factor = F::set(1.0f / std::sqrt(mean_square + eps));
  for_lanes(size, [=](int64_t k, int m) { store(load(x + k, m) * factor * load(weight + k, m), out + k, m); });
}

}  // namespace apr::APR_ISA
