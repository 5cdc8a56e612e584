// tanh of a vector.
#pragma once

#include <cstdint>

#include "simd.h"

namespace apr::APR_ISA {

// tanh x, relative error below 4 ulp; a zero keeps its sign, and NaN stays NaN.
inline F tanh(F x) {
  // With e = e^2|x| - 1, tanh |x| is e / (e + 2). Near 0 there is no cancellation: e = 2^n (e^r - 1) + (2^n - 1).
  // Beyond |x| = 10 the result is 1 in float32. The polynomial and the split of ln 2 are those of `exp`.
  const F y = min(F::set(20.0f), abs(x) + abs(x));  // in this order NaN passes
  const I n = to_int(y * F::set(1.44269504f));
  const F k = to_float(n);
  F r = fma(k, F::set(-0.693359375f), y);
  r = fma(k, F::set(2.12194440e-4f), r);
  F p = F::set(1.9875691500e-4f);
  p = fma(p, r, F::set(1.3981999507e-3f));
  p = fma(p, r, F::set(8.3334519073e-3f));
  p = fma(p, r, F::set(4.1665795894e-2f));
  p = fma(p, r, F::set(1.6666665459e-1f));
  p = fma(p, r, F::set(5.0000001201e-1f));
  p = fma(p, r * r, r);
  const F power = bits_to_float(shift_left<23>(n + I::set(127)));
  const F e = fma(power, p, power - F::set(1.0f));
  const F magnitude = e / (e + F::set(2.0f));
  return bits_to_float(float_to_bits(abs(magnitude)) + (float_to_bits(x) & I::set(INT32_MIN)));
}

}  // namespace apr::APR_ISA
