// SiLU: x / (1 + e^-x). Error below 5 ulp of the result, and below 1e-36 where that is smaller: from x = -88 down, and
// at -infinity, the result stays at -2.6e-37, because `exp` has no infinity to divide by.
#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"

namespace apr::APR_ISA {

static inline F silu(F x) {
  const F bounded = max(F::set(-88.7f), x);  // in this order NaN passes
  return bounded / (F::set(1.0f) + exp(F::zero() - bounded));
}

void silu(const float* x, int64_t n, float* out) {
  for_lanes(n, [=](int64_t i, int lanes) { store(silu(load(x + i, lanes)), out + i, lanes); });
}

void silu_multiply(const float* gate, const float* up, int64_t n, float* out) {
  for_lanes(n, [=](int64_t i, int lanes) {
    store(silu(load(gate + i, lanes)) * load(up + i, lanes), out + i, lanes);
  });
}

}  // namespace apr::APR_ISA
