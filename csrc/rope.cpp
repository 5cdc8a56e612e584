// Rotary position embedding of split halves, for one token: the same bits as kernels/rope.py, whose two products are
// rounded before they are added; hence no fused product here.
#include <cstring>

#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"

namespace apr::APR_ISA {

void rope(const float* x, const float* cos, const float* sin, int64_t half, int64_t num_heads, int64_t head_dim,
          float* out) {
  for (int64_t head = 0; head < num_heads; ++head, x += head_dim, out += head_dim) {
    for_lanes(half, [=](int64_t i, int lanes) {
      const F first = load(x + i, lanes), second = load(x + half + i, lanes);
      const F c = load(cos + i, lanes), s = load(sin + i, lanes);
      store(first * c - second * s, out + i, lanes);
      store(second * c + first * s, out + half + i, lanes);
    });
    if (out != x) std::memcpy(out + 2 * half, x + 2 * half, (head_dim - 2 * half) * sizeof(float));
  }
}

}  // namespace apr::APR_ISA
