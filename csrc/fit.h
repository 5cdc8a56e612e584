// Scales and quants of groups of elements, by the searches of ggml-quants.c, bit for bit; a lane is a group of its own.
// NumPy: kernels/quants/_fit.py, which says more of each. Every sum is made in the order of the elements; nothing is
// fused, so all instruction sets give the same bits. Quants are floats here: whole numbers.
#pragma once

#include "simd/simd.h"

namespace apr::APR_ISA {

// GROUP_MAX_EPS: a group of nothing larger counts as zero
inline F smallest() { return F::set(1e-15f); }

// In a sum with 1.5 * 2^23 the lowest bit is worth 1.
inline F rounding() { return F::set(12582912.0f); }

// To the nearest, ties to even; up to 2^22.
inline F rounded(F x) { return (x + rounding()) - rounding(); }

// The same, and beyond what ggml-quants.c, nearest_int makes of it.
inline F nearest_int(F x) {
  return to_float((float_to_bits(x + rounding()) & I::set(0x007fffff)) - I::set(0x00400000));
}

inline F clamp(F x, float low, float high) { return min(max(x, F::set(low)), F::set(high)); }

// A quant as a byte keeps it: modulo 256.
inline F as_byte(F q) { return to_float(to_int(q) & I::set(0xff)); }

// The first element of the largest magnitude, 0 for a group of zeros.
template <int size> inline F largest_magnitude(const F* x, F& magnitude) {
  F largest = F::zero();
  magnitude = F::zero();
  for (int i = 0; i < size; ++i) {
    const F a = abs(x[i]);
    const M above = less(magnitude, a);
    magnitude = select(above, a, magnitude);
    largest = select(above, x[i], largest);
  }
  return largest;
}

// Least and most; of zeros of both signs, the first.
template <int size> inline void extremes(const F* x, F& low, F& high) {
  low = high = x[0];
  for (int i = 1; i < size; ++i) {
    low = select(less(x[i], low), x[i], low);
    high = select(less(high, x[i]), x[i], high);
  }
}

// make_qx_quants: x ~ scale * (q - bound), the best of 19 scales; q is 0 .. 2 * bound - 1.
template <int size, int bound> inline F fit_signed(const F* x, const F* weights, F* q) {
  F magnitude;
  const F largest = largest_magnitude<size>(x, magnitude);
  F weighted[size];
  for (int i = 0; i < size; ++i) weighted[i] = weights[i] * x[i];
  const auto quant = [x](F inverse, int i) { return clamp(rounded(inverse * x[i]), -bound, bound - 1); };
  F sum_xq, sum_qq;
  const auto attempt = [&](F inverse) {
    sum_xq = sum_qq = F::zero();
    for (int i = 0; i < size; ++i) {
      const F l = quant(inverse, i);
      sum_xq = sum_xq + weighted[i] * l;
      sum_qq = sum_qq + weights[i] * l * l;
    }
  };
  F inverse = F::set(-bound) / largest;
  attempt(inverse);
  F scale = select(equal(sum_qq, F::zero()), F::zero(), sum_xq / sum_qq);
  F best = scale * sum_xq;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const F tried = F::set(-(bound + 0.1f * float(step))) / largest;
    attempt(tried);
    const M better = less(F::zero(), sum_qq) & less(best * sum_qq, sum_xq * sum_xq);
    scale = select(better, sum_xq / sum_qq, scale);
    best = select(better, scale * sum_xq, best);
    inverse = select(better, tried, inverse);
  }
  const M is_zero = less(magnitude, smallest());
  for (int i = 0; i < size; ++i) q[i] = select(is_zero, F::zero(), quant(inverse, i) + F::set(bound));
  return select(is_zero, F::zero(), scale);
}

// make_q3_quants: the same with weights x * x, but each quant in its turn takes its best value beside the others.
// Several groups at once, one after the other in x and q: each of them waits for its own divisions only.
template <int size, int bound, int groups> inline void fit_signed_by_turns(const F* x, F* q, F* scales) {
  F sum_xq[groups], sum_qq[groups];
  M is_zero[groups];
  for (int g = 0; g < groups; ++g) {
    F magnitude;
    const F inverse = F::set(-bound) / largest_magnitude<size>(x + g * size, magnitude);
    is_zero[g] = less(magnitude, smallest());
    sum_xq[g] = sum_qq[g] = F::zero();
    for (int i = g * size; i < (g + 1) * size; ++i) {
      const F w = x[i] * x[i];
      q[i] = clamp(rounded(inverse * x[i]), -bound, bound - 1);
      sum_xq[g] = sum_xq[g] + w * x[i] * q[i];
      sum_qq[g] = sum_qq[g] + w * q[i] * q[i];
    }
  }
  for (int turn = 0; turn < 5; ++turn) {
    M changed = less(F::zero(), F::zero());
    for (int j = 0; j < size; ++j)
      for (int g = 0; g < groups; ++g) {
        const int i = g * size + j;
        const F old = q[i], w = x[i] * x[i], wx = w * x[i];
        F xq = sum_xq[g] - wx * old;
        F qq = sum_qq[g] - w * old * old;
        const F l = clamp(nearest_int(x[i] * qq / xq), -bound, bound - 1);
        const M is_other = less(F::zero(), xq) & !equal(l, old) & !is_zero[g];
        xq = xq + wx * l;
        qq = qq + w * l * l;
        const M better = is_other & less(F::zero(), qq) & less(sum_xq[g] * sum_xq[g] * qq, xq * xq * sum_qq[g]);
        q[i] = select(better, l, old);
        sum_xq[g] = select(better, xq, sum_xq[g]);
        sum_qq[g] = select(better, qq, sum_qq[g]);
        changed = changed | better;
      }
    if (!any(changed)) break;
  }
  for (int g = 0; g < groups; ++g) {
    for (int i = g * size; i < (g + 1) * size; ++i) q[i] = select(is_zero[g], F::zero(), q[i] + F::set(bound));
    scales[g] = select(is_zero[g] | !less(F::zero(), sum_qq[g]), F::zero(), sum_xq[g] / sum_qq[g]);
  }
}

// A search for a scale and a minimum is a struct that says what is tried: the scales
//     (high - low) / (top + first + step * i), i = 0 .. n_steps
// is_absolute: the error is that of magnitudes, not of squares; is_guarded: make_qkx3_quants, else make_qkx2_quants.
struct Weighted {
  static constexpr float first = -0.9f, step = 0.05f;
  static constexpr int n_steps = 36;
  static constexpr bool is_absolute = false, is_guarded = true;
};

// The quants 0 .. top of x for a scale's inverse and a least value.
template <int size, int top> struct Quantizer {
  const F* x;
  F least, most;  // of x

  // Whether no quant is beyond what `rounded` rounds: x is between its extremes, and rounding keeps the order.
  bool is_small(F inverse, F low) const {
    const F limit = F::set(4194304.0f);
    return !any(!(at_most(abs(inverse * (least - low)), limit) & at_most(abs(inverse * (most - low)), limit)));
  }
  F small(F inverse, F low, int i) const { return clamp(rounded(inverse * (x[i] - low)), 0, top); }
  F wrapped(F inverse, F low, int i) const { return clamp(nearest_int(inverse * (x[i] - low)), 0, top); }
  F guarded(F inverse, F low, int i) const {
    const F steps = inverse * (x[i] - low);
    const F bounded = select(less(steps, F::set(top)), steps, F::set(top));
    return select(less(F::zero(), steps), rounded(bounded), F::zero());
  }
  template <bool is_guarded> void all(F inverse, F low, F* q) const {
    if (is_small(inverse, low)) {
      for (int i = 0; i < size; ++i) q[i] = small(inverse, low, i);
    } else {
      for (int i = 0; i < size; ++i) q[i] = is_guarded ? guarded(inverse, low, i) : wrapped(inverse, low, i);
    }
  }
};

// A group on its way to a scale and a minimum.
template <class Search, int size, int top> struct Fit {
  const F* x;
  const F* weights;
  F* q;
  Quantizer<size, top> quantizer;
  F sum_w, sum_x, first_low, low, scale, best;
  F inverse, inverse_low;     // of the best quants
  M is_flat, is_first;        // whether the best quants are still the first
  F its_scale, its_low, its_inverse, determinant;  // of this step
  F sum_q, sum_qq, sum_xq, error;

  // a flat group's quants are set in the end; until then they must not keep the others from the fast way
  F inverse_of(float range) const { return select(is_flat, F::zero(), F::set(range) / (quantizer.most - low)); }
  void begin() {
    quantizer.x = x;
    extremes<size>(x, quantizer.least, quantizer.most);
    sum_w = weights[0];
    sum_x = weights[0] * x[0];
    for (int i = 1; i < size; ++i) {
      sum_w = sum_w + weights[i];
      sum_x = sum_x + weights[i] * x[i];
    }
    first_low = low = select(less(F::zero(), quantizer.least), F::zero(), quantizer.least);
    is_flat = at_most(quantizer.most, low);
    is_first = at_most(F::zero(), F::zero());
    inverse = inverse_of(top);
    inverse_low = low;
    quantizer.template all<false>(inverse, low, q);
    its_scale = scale = F::set(1.0f) / inverse;
    its_low = low;
    error = F::zero();
  }
  void add_error(int i) {
    const F off = its_scale * q[i] + its_low - x[i];
    error = error + weights[i] * (Search::is_absolute ? abs(off) : off * off);
  }
  void attempt(int step) {
    its_inverse = inverse_of(Search::first + Search::step * float(step) + float(top));
    quantizer.template all<Search::is_guarded>(its_inverse, low, q);
    sum_q = sum_qq = sum_xq = error = F::zero();
  }
  void add(int i) {
    const F wq = weights[i] * q[i];
    sum_q = sum_q + wq;
    sum_qq = sum_qq + wq * q[i];
    sum_xq = sum_xq + wq * x[i];
  }
  void solve() {
    determinant = sum_w * sum_qq - sum_q * sum_q;
    its_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
    its_low = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    const M is_above = less(F::zero(), its_low);
    its_low = select(is_above, F::zero(), its_low);
    its_scale = select(is_above, sum_xq / sum_qq, its_scale);
  }
  void keep_if_better() {
    const M better = less(F::zero(), determinant) & less(error, best) & !is_flat;
    best = select(better, error, best);
    scale = select(better, its_scale, scale);
    inverse = select(better, its_inverse, inverse);
    inverse_low = select(better, low, inverse_low);
    is_first = is_first & !better;
    low = select(better, its_low, low);
  }
  void finish() {
    for (int i = 0; i < size; ++i) {
      F l = quantizer.wrapped(inverse, inverse_low, i);
      if (Search::is_guarded) l = select(is_first, l, quantizer.guarded(inverse, inverse_low, i));
      q[i] = select(is_flat, F::zero(), l);
    }
    low = select(is_flat, first_low, low);
    scale = select(is_flat, F::zero(), scale);
  }
};

// make_qkx2_quants and make_qkx3_quants: x ~ scale * q + low, low <= 0, q is 0 .. top. Several groups at once, one
// after the other in x, weights and q: while one waits for its sums, the others add.
template <class Search, int size, int top, int groups>
inline void fit_with_minimum(const F* x, const F* weights, F* q, F* scales, F* lows) {
  Fit<Search, size, top> fits[groups];
  for (int g = 0; g < groups; ++g) {
    fits[g].x = x + g * size;
    fits[g].weights = weights + g * size;
    fits[g].q = q + g * size;
    fits[g].begin();
  }
  for (int i = 0; i < size; ++i)
    for (int g = 0; g < groups; ++g) fits[g].add_error(i);
  for (int g = 0; g < groups; ++g) fits[g].best = fits[g].error;
  for (int step = 0; step <= Search::n_steps; ++step) {
    for (int g = 0; g < groups; ++g) fits[g].attempt(step);
    for (int i = 0; i < size; ++i)
      for (int g = 0; g < groups; ++g) fits[g].add(i);
    for (int g = 0; g < groups; ++g) fits[g].solve();
    for (int i = 0; i < size; ++i)
      for (int g = 0; g < groups; ++g) fits[g].add_error(i);
    for (int g = 0; g < groups; ++g) fits[g].keep_if_better();
  }
  for (int g = 0; g < groups; ++g) {
    fits[g].finish();
    scales[g] = fits[g].scale;
    lows[g] = fits[g].low;
  }
}

template <int size> inline F scaled_error(const F* x, const F* weights, const F* q, F scale) {
  F error = F::zero();
  for (int i = 0; i < size; ++i) {
    const F off = x[i] - scale * q[i];
    error = error + weights[i] * off * off;
  }
  return error;
}

// make_qp_quants: x ~ scale * q with q a byte of 0 .. top, for scales and minima.
template <int size, int top> inline F fit_positive(const F* x, const F* weights, F* q) {
  const F zero = F::zero(), one = F::set(1.0f), most = F::set(top);
  F high = zero;
  for (int i = 0; i < size; ++i) high = select(less(high, x[i]), x[i], high);
  const M is_zero = less(high, smallest());
  F inverse = most / high;
  for (int i = 0; i < size; ++i) q[i] = as_byte(nearest_int(inverse * x[i]));
  F best = scaled_error<size>(x, weights, q, one / inverse);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const F tried = F::set(0.1f * float(step) + float(top)) / high;
    for (int i = 0; i < size; ++i) q[i] = min(nearest_int(tried * x[i]), most);
    const F error = scaled_error<size>(x, weights, q, one / tried);
    const M better = less(error, best);
    best = select(better, error, best);
    inverse = select(better, tried, inverse);
  }
  F sum_xq = zero, sum_qq = zero;
  for (int i = 0; i < size; ++i) {
    const F l = min(nearest_int(inverse * x[i]), most);
    sum_xq = sum_xq + weights[i] * x[i] * l;
    sum_qq = sum_qq + weights[i] * l * l;
    q[i] = as_byte(l);
  }
  for (int turn = 0; turn < 5; ++turn) {
    M changed = less(zero, zero);
    for (int i = 0; i < size; ++i) {
      const F old = q[i], w = weights[i];
      F xq = sum_xq - w * x[i] * old;
      F qq = sum_qq - w * old * old;
      const F l = min(nearest_int(x[i] * qq / xq), most);
      const M is_other = less(zero, xq) & less(zero, qq) & !equal(l, old) & !is_zero;
      xq = xq + w * x[i] * l;
      qq = qq + w * l * l;
      const M better = is_other & less(sum_xq * sum_xq * qq, xq * xq * sum_qq);
      q[i] = select(better, as_byte(l), old);
      sum_xq = select(better, xq, sum_xq);
      sum_qq = select(better, qq, sum_qq);
      changed = changed | better;
    }
    if (!any(changed)) break;
  }
  for (int i = 0; i < size; ++i) q[i] = select(is_zero, zero, q[i]);
  return select(is_zero | !less(zero, sum_qq), zero, sum_xq / sum_qq);
}

}  // namespace apr::APR_ISA
