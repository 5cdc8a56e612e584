// Sums and products of two rows, and a row times a number: one rounding each, so the same bits as NumPy.
#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"

namespace apr::APR_ISA {

void add(const float* x, const float* y, int64_t n, float* out) {
  for_lanes(n, [=](int64_t i, int lanes) { store(load(x + i, lanes) + load(y + i, lanes), out + i, lanes); });
}

void multiply(const float* x, const float* y, int64_t n, float* out) {
  for_lanes(n, [=](int64_t i, int lanes) { store(load(x + i, lanes) * load(y + i, lanes), out + i, lanes); });
}

void scale(const float* x, float factor, int64_t n, float* out) {
  const F f = F::set(factor);
  for_lanes(n, [=](int64_t i, int lanes) { store(load(x + i, lanes) * f, out + i, lanes); });
}

}  // namespace apr::APR_ISA
