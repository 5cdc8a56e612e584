// Soft cap: cap * tanh(x / cap). Relative error below 6 ulp.
#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"
#include "simd/tanh.h"

namespace apr::APR_ISA {

void softcap(const float* x, float cap, int64_t n, float* out) {
  const F c = F::set(cap);
  for_lanes(n, [=](int64_t i, int lanes) { store(c * tanh(load(x + i, lanes) / c), out + i, lanes); });
}

}  // namespace apr::APR_ISA
