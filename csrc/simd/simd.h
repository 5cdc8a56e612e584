// The vectors of the instruction set that this file is being compiled for: F (floats), I (32-bit integers), B (bytes).
#pragma once

#if defined(APR_PORTABLE)
#include "portable.h"
#elif defined(__AVX512BW__)
#include "avx512.h"
#elif defined(__AVX2__)
#include "avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "neon.h"
#else
#include "portable.h"
#endif

namespace apr::APR_ISA {

// Calls f(offset, n) for every full vector, then once for the rest: n lanes of F are valid.
template <class Function> inline void for_lanes(int64_t size, Function f) {
  int64_t i = 0;
  for (; i + F::lanes <= size; i += F::lanes) f(i, F::lanes);
  if (i < size) f(i, int(size - i));
}
inline F load(const float* p, int n) { return n == F::lanes ? F::load(p) : F::load_n(p, n); }
inline void store(F x, float* p, int n) { n == F::lanes ? x.store(p) : x.store_n(p, n); }

// e^x, relative error below 2 ulp; x is clamped to -87.3 .. 88.7, where the result is a normal number. NaN stays NaN.
// Source: Cephes expf (the polynomial and the split of ln 2).
inline F exp(F x) {
  const F clamped = min(F::set(88.72283f), max(F::set(-87.33654f), x));  // in this order NaN passes
  const I n = to_int(clamped * F::set(1.44269504f));
  const F k = to_float(n);
  F r = fma(k, F::set(-0.693359375f), clamped);
  r = fma(k, F::set(2.12194440e-4f), r);
  F p = F::set(1.9875691500e-4f);
  p = fma(p, r, F::set(1.3981999507e-3f));
  p = fma(p, r, F::set(8.3334519073e-3f));
  p = fma(p, r, F::set(4.1665795894e-2f));
  p = fma(p, r, F::set(1.6666665459e-1f));
  p = fma(p, r, F::set(5.0000001201e-1f));
  p = fma(p, r * r, r + F::set(1.0f));
  // 2^n in two factors: n is -126 .. 128, and 2^128 has no float
  const I half = shift_right<1>(n);
  return p * bits_to_float(shift_left<23>(half + I::set(127))) * bits_to_float(shift_left<23>(n - half + I::set(127)));
}

}  // namespace apr::APR_ISA
