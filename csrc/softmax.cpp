// The two reductions of a softmax over a long row.
// max: of a row without NaN. sum_exp: relative error below 1e-6 for terms within e^-10 of the largest; those further
// down lose up to 2^-24 of x - max each, and count for as much less. Terms below e^-87 count as e^-87.
#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"

namespace apr::APR_ISA {

float max(const float* x, int64_t n) {
  float best = x[0];
  if (n >= 4 * F::lanes) {
    F a = F::load(x), b = a, c = a, d = a;
    for (int64_t i = 0; i + 4 * F::lanes <= n; i += 4 * F::lanes) {
      a = max(a, F::load(x + i));
      b = max(b, F::load(x + i + F::lanes));
      c = max(c, F::load(x + i + 2 * F::lanes));
      d = max(d, F::load(x + i + 3 * F::lanes));
    }
    best = max(max(max(a, b), max(c, d)));
  }
  for (int64_t i = n - n % (4 * F::lanes); i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

double sum_exp(const float* x, float max, int64_t n) {
  constexpr int chains = 4, depth = 8;  // float32 sums of 8 terms, then float64
  const F m = F::set(max);
  double total = 0;
  int64_t i = 0;
  while (i + chains * depth * F::lanes <= n) {
    F sums[chains] = {F::zero(), F::zero(), F::zero(), F::zero()};
    for (int j = 0; j < depth; ++j)
      for (int c = 0; c < chains; ++c, i += F::lanes) sums[c] = sums[c] + exp(F::load(x + i) - m);
    total += sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }
  for_lanes(n - i, [&](int64_t k, int lanes) {
    float terms[F::lanes];
    exp(load(x + i + k, lanes) - m).store(terms);
    for (int j = 0; j < lanes; ++j) total += terms[j];
  });
  return total;
}

}  // namespace apr::APR_ISA
