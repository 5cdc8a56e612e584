// Rows of floats into ggml's quantised types, with the bits that llama.cpp's own tool writes. A lane is a block: 16, 8
// or 4 blocks side by side go through the searches of fit.h, each in the order of its own elements.
//
// NumPy: kernels/quants/, `quantise` of each codec, which has ggml's names.
#include "codec.h"
#include "fit.h"
#include "group.h"
#include "kernels.h"
#include "ops.h"

namespace apr::APR_ISA {

namespace {

// 1 / scale, or 0; a scale below 2^-128 has no inverse, and makes quants of 0: then `offset` is 0 as well.
inline F inverse_or_zero(F scale, F& offset) {
  const F inverse = select(equal(scale, F::zero()), F::zero(), F::set(1.0f) / scale);
  const M is_beyond = less(F::set(3.4028235e38f), abs(inverse));
  offset = select(is_beyond, F::zero(), offset);
  return select(is_beyond, F::zero(), inverse);
}

// importance * sqrt(mean square + x * x)
template <int n> inline void weigh(const F* x, F mean_square, F* weights) {
  for (int i = 0; i < n; ++i) weights[i] = weights[i] * sqrt(mean_square + x[i] * x[i]);
}

template <int n> inline F sum_in_order(const F* x) {
  F sum = F::zero();
  for (int i = 0; i < n; ++i) sum = sum + x[i];
  return sum;
}

template <int n> inline F sum_of_squares(const F* x) {
  F sum = F::zero();
  for (int i = 0; i < n; ++i) sum = sum + x[i] * x[i];
  return sum;
}

// Q4_0 and Q5_0
template <int bits, bool has_importance> void encode_signed(Group& group) {
  constexpr int bound = 1 << (bits - 1), nibbles_at = bits == 4 ? 2 : 6;
  F x[32], q[32];
  load_values<32>(group, x);
  if constexpr (has_importance) {
    F weights[32];
    load_columns<32>(group.importance, weights);
    weigh<32>(x, group.mean_square, weights);
    group.put_half(fit_signed<32, bound>(x, weights, q), 0);
  } else {
    F magnitude;
    const F scale = largest_magnitude<32>(x, magnitude) / F::set(-bound);
    F offset = F::set(bound + 0.5f);
    const F inverse = inverse_or_zero(scale, offset);
    group.put_half(scale, 0);
    for (int i = 0; i < 32; ++i) q[i] = to_float(truncate(min(x[i] * inverse + offset, F::set(2 * bound - 1))));
  }
  I words[8];
  words_of<32>(q, words);
  if constexpr (bits == 5) put_bits_in_order<4>(group, q, 2);
  put_quants<0, 4, 16, 32>(group, words, nibbles_at);
}

// Q4_1 and Q5_1
template <int bits, bool has_importance> void encode_with_minimum(Group& group) {
  constexpr int top = (1 << bits) - 1, nibbles_at = bits == 4 ? 4 : 8;
  F x[32], q[32], scale, low;
  load_values<32>(group, x);
  if constexpr (has_importance) {
    F weights[32];
    load_columns<32>(group.importance, weights);
    weigh<32>(x, group.mean_square, weights);
    fit_with_minimum<Weighted, 32, top, 1>(x, weights, q, &scale, &low);
  } else {
    F high;
    extremes<32>(x, low, high);
    scale = (high - low) / F::set(top);
    F offset = F::set(0.5f);
    const F inverse = inverse_or_zero(scale, offset);
    for (int i = 0; i < 32; ++i) q[i] = to_float(truncate(min((x[i] - low) * inverse + offset, F::set(top))));
  }
  group.put_half(scale, 0);
  group.put_half(low, 2);
  I words[8];
  words_of<32>(q, words);
  if constexpr (bits == 5) put_bits_in_order<4>(group, q, 4);
  put_quants<0, 4, 16, 32>(group, words, nibbles_at);
}

void encode_q8_0(Group& group) {
  F x[32];
  load_values<32>(group, x);
  F most = abs(x[0]);
  for (int i = 1; i < 32; ++i) most = max(most, abs(x[i]));
  const F scale = most / F::set(127);
  F half = F::set(0.49999997f);  // the largest below a half: with it, a sum rounds up at a half and not before
  const F inverse = inverse_or_zero(scale, half);
  group.put_half(scale, 0);
  const I sign = I::set(INT32_MIN), byte = I::set(255);
  for (int i = 0; i < 32; i += 4) {
    I q[4];
    for (int j = 0; j < 4; ++j) {
      const F scaled = x[i + j] * inverse;
      q[j] = truncate(scaled + bits_to_float((float_to_bits(scaled) & sign) | float_to_bits(half))) & byte;
    }
    group.put_bytes(q[0] | shift_left<8>(q[1]) | shift_left<16>(q[2]) | shift_left<24>(q[3]), 2 + i);
  }
}

template <bool first, class A, class B> struct Choose { using type = A; };
template <class A, class B> struct Choose<false, A, B> { using type = B; };

// The searches without an importance: of Q4_K and Q5_K, and of Q2_K.
template <int bits> struct Spread {
  static constexpr float first = bits == 4 ? -1.0f : -0.5f, step = 0.1f;
  static constexpr int n_steps = bits == 4 ? 20 : 15;
  static constexpr bool is_absolute = false, is_guarded = false;
};
struct Magnitudes {
  static constexpr float first = -0.5f, step = 0.1f;
  static constexpr int n_steps = 15;
  static constexpr bool is_absolute = true, is_guarded = false;
};

// Quants for the scales as they are stored; a group whose factor is 0 keeps those that the search found.
template <int size, int low, int high> inline void requantise(const F* x, F factor, F minimum, F* q) {
  const M keeps = equal(factor, F::zero());
  for (int i = 0; i < size; ++i) {
    const F l = clamp(nearest_int((x[i] + minimum) / factor), low, high) - F::set(low);
    q[i] = select(keeps, q[i], l);
  }
}

// Of scales or minima, positive: the largest becomes `top`. Returns what one step is worth.
template <int n, int top> inline F few_positive(const F* x, F* q) {
  F high = F::zero();
  for (int i = 0; i < n; ++i) high = select(less(high, x[i]), x[i], high);
  const F inverse = select(less(F::zero(), high), F::set(top) / high, F::zero());
  for (int i = 0; i < n; ++i) q[i] = nearest_int(inverse * x[i]);
  return high / F::set(top);
}

template <int n> inline void load_importance(const Group& group, int at, F* weights) {
  const float* rows[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) rows[lane] = group.importance[lane] + at;
  load_columns<n>(rows, weights);
}

constexpr int kAtOnce = 2;  // groups with a minimum; four are no faster

// Q4_K and Q5_K: the eight 6-bit scales and minima in 12 bytes, and those as they are read again.
void put_k4_scales(Group& group, F* scales, F* minima) {
  const I low6 = I::set(0x3f3f3f3f), low4 = I::set(0x0f0f0f0f), top2 = I::set(int32_t(0xc0c0c0c0));
  I word[2][2], first[2];
  for (int k = 0; k < 2; ++k) {
    const F* q = k ? minima : scales;
    for (int i = 0; i < 2; ++i) word[k][i] = four(q + 4 * i);
    first[k] = word[k][0] | (shift_left<2>(word[k][1]) & top2);
  }
  const I last = (word[0][1] & low4) | shift_left<4>(word[1][1] & low4);
  group.put_bytes(first[0], 4);
  group.put_bytes(first[1], 8);
  group.put_bytes(last, 12);
  for (int k = 0; k < 2; ++k) {
    const I low = first[k] & low6;
    const I high = (k ? bits_of<4, 4>(last) : last & low4) | shift_left<4>(bits_of<6, 2>(first[k]));
    F* q = k ? minima : scales;
    unrolled<4>([&](auto i) {
      q[i.value] = to_float(shift_right<8 * i.value>(low) & I::set(255));
      q[i.value + 4] = to_float(shift_right<8 * i.value>(high) & I::set(255));
    });
  }
}

template <int bits, bool has_importance> void encode_k4(Group& group) {
  constexpr int top = (1 << bits) - 1;
  using Search = typename Choose<has_importance, Weighted, Spread<bits>>::type;
  F x[256], q[256], scales[8], minima[8];
  load_values<256>(group, x);
  F weights[32 * kAtOnce], sums[8], d, dmin, few_scales[8], few_minima[8];
  const F mean_square = has_importance ? F::set(2.0f) * sum_of_squares<256>(x) / F::set(256) : F::zero();
  for (int j = 0; j < 8; ++j) {
    const F* group_x = x + 32 * j;
    F* group_weights = weights + 32 * (j % kAtOnce);
    if constexpr (has_importance) {
      load_importance<32>(group, 32 * j, group_weights);
      weigh<32>(group_x, mean_square, group_weights);
      sums[j] = sum_in_order<32>(group_weights);
    } else {
      const F mean = sqrt(sum_of_squares<32>(group_x) / F::set(32));
      for (int i = 0; i < 32; ++i) group_weights[i] = mean + abs(group_x[i]);
    }
    const int first = j + 1 - kAtOnce;
    if (j % kAtOnce == kAtOnce - 1)
      fit_with_minimum<Search, 32, top, kAtOnce>(x + 32 * first, weights, q + 32 * first, scales + first,
                                                 minima + first);
  }
  for (F& minimum : minima) minimum = F::zero() - minimum;
  if constexpr (has_importance) {
    d = fit_positive<8, 63>(scales, sums, few_scales);
    dmin = fit_positive<8, 63>(minima, sums, few_minima);
  } else {
    d = few_positive<8, 63>(scales, few_scales);
    dmin = few_positive<8, 63>(minima, few_minima);
  }
  if constexpr (bits == 5 || !has_importance)  // in the one case left the source lets a negative scale overflow
    for (int j = 0; j < 8; ++j) {
      few_scales[j] = min(as_byte(few_scales[j]), F::set(63));
      few_minima[j] = min(as_byte(few_minima[j]), F::set(63));
    }
  put_k4_scales(group, few_scales, few_minima);
  d = group.put_half(d, 0);
  dmin = group.put_half(dmin, 2);
  for (int j = 0; j < 8; ++j) requantise<32, 0, top>(x + 32 * j, d * few_scales[j], dmin * few_minima[j], q + 32 * j);
  I words[64];
  words_of<256>(q, words);
  if constexpr (bits == 5) put_quants<4, 1, 32, 256>(group, words, 16);
  put_quants<0, 4, 32, 256>(group, words, bits == 4 ? 16 : 48);
}

// The first of the largest magnitude of 16 scales becomes -bound; they are written into q, at most bound - 1.
template <int bound> inline F few_signed(const F* scales, F& magnitude, F* q) {
  const F inverse = F::set(-bound) / largest_magnitude<16>(scales, magnitude);
  for (int j = 0; j < 16; ++j) q[j] = clamp(nearest_int(inverse * scales[j]), -bound, bound - 1);
  return F::set(1.0f) / inverse;
}

template <bool has_importance> void encode_q6_k(Group& group) {
  F x[256], q[256], scales[16], few[16], weights[16], magnitude;
  load_values<256>(group, x);
  for (int j = 0; j < 16; ++j) {
    const F* group_x = x + 16 * j;
    if constexpr (has_importance) load_importance<16>(group, 16 * j, weights);
    else for (int i = 0; i < 16; ++i) weights[i] = group_x[i] * group_x[i];
    scales[j] = fit_signed<16, 32>(group_x, weights, q + 16 * j);
  }
  const F step = few_signed<128>(scales, magnitude, few);
  const M is_zero = less(magnitude, smallest());  // then all bytes are
  const F d = group.put_half(select(is_zero, F::zero(), step), 208);
  for (int j = 0; j < 16; ++j) {
    few[j] = select(is_zero, F::zero(), few[j]);
    requantise<16, -32, 31>(x + 16 * j, d * few[j], F::zero(), q + 16 * j);
    for (int i = 0; i < 16; ++i) q[16 * j + i] = select(is_zero, F::zero(), q[16 * j + i]);
    few[j] = as_byte(few[j]);
  }
  I words[64];
  words_of<256>(q, words);
  put_quants<0, 4, 64, 256>(group, words, 0);
  put_quants<4, 2, 32, 256>(group, words, 128);
  for (int j = 0; j < 16; j += 4) group.put_bytes(four(few + j), 192 + j);
}

// 16 scales of 6 bits in 12 bytes (kernels/quants/_k_scales.py, pack_wide_scales).
void put_wide_scales(Group& group, const F* few, int at) {
  I words[4];
  words_of<16>(few, words);
  for (int i = 0; i < 2; ++i)
    group.put_bytes(bits_of<0, 4>(words[i]) | shift_left<4>(bits_of<0, 4>(words[i + 2])), at + 4 * i);
  group.put_bytes(bits_of<4, 2>(words[0]) | shift_left<2>(bits_of<4, 2>(words[1])) |
                      shift_left<4>(bits_of<4, 2>(words[2])) | shift_left<6>(bits_of<4, 2>(words[3])),
                  at + 8);
}

template <bool has_importance> void encode_q3_k(Group& group) {
  F x[256], q[256], scales[16], few[16], weights[16], sums[16], d;
  load_values<256>(group, x);
  if constexpr (has_importance) {
    const F mean_square = F::set(2.0f) * sum_of_squares<256>(x) / F::set(256);
    for (int j = 0; j < 16; ++j) {
      load_importance<16>(group, 16 * j, weights);
      weigh<16>(x + 16 * j, mean_square, weights);
      sums[j] = sum_in_order<16>(weights);
      scales[j] = fit_signed<16, 4>(x + 16 * j, weights, q + 16 * j);
    }
    d = fit_signed<16, 32>(scales, sums, few);
  } else {
    F magnitude;
    for (int j = 0; j < 16; j += 4) fit_signed_by_turns<16, 4, 4>(x + 16 * j, q + 16 * j, scales + j);
    d = few_signed<32>(scales, magnitude, few);
    const M is_zero = equal(magnitude, F::zero());
    d = select(is_zero, F::zero(), d);
    for (int j = 0; j < 16; ++j) few[j] = select(is_zero, F::zero(), few[j] + F::set(32));
  }
  d = group.put_half(d, 108);
  for (int j = 0; j < 16; ++j)
    requantise<16, -4, 3>(x + 16 * j, d * (few[j] - F::set(32)), F::zero(), q + 16 * j);
  I words[64];
  words_of<256>(q, words);
  put_quants<2, 1, 32, 256>(group, words, 0);
  put_quants<0, 2, 32, 256>(group, words, 32);
  put_wide_scales(group, few, 96);
}

template <bool has_importance> void encode_q2_k(Group& group) {
  using Search = typename Choose<has_importance, Weighted, Magnitudes>::type;
  F x[256], q[256], scales[16], minima[16], few_scales[16], few_minima[16];
  F weights[16 * kAtOnce], sums[16], d, dmin;
  load_values<256>(group, x);
  const F mean_square = (has_importance ? sum_of_squares<256>(x) : F::zero()) / F::set(256);
  for (int j = 0; j < 16; ++j) {
    const F* group_x = x + 16 * j;
    F* group_weights = weights + 16 * (j % kAtOnce);
    if constexpr (has_importance) {
      load_importance<16>(group, 16 * j, group_weights);
      weigh<16>(group_x, mean_square, group_weights);
      sums[j] = sum_in_order<16>(group_weights);
    } else {
      for (int i = 0; i < 16; ++i) group_weights[i] = abs(group_x[i]);
    }
    const int first = j + 1 - kAtOnce;
    if (j % kAtOnce == kAtOnce - 1)
      fit_with_minimum<Search, 16, 3, kAtOnce>(x + 16 * first, weights, q + 16 * first, scales + first, minima + first);
  }
  for (F& minimum : minima) minimum = F::zero() - minimum;
  if constexpr (has_importance) {
    d = fit_positive<16, 15>(scales, sums, few_scales);
    dmin = fit_positive<16, 15>(minima, sums, few_minima);
  } else {
    d = few_positive<16, 15>(scales, few_scales);
    dmin = few_positive<16, 15>(minima, few_minima);
  }
  d = group.put_half(d, 80);
  dmin = group.put_half(dmin, 82);
  F packed[16];
  for (int j = 0; j < 16; ++j) {
    const I byte = (to_int(few_scales[j]) | shift_left<4>(to_int(few_minima[j]))) & I::set(255);
    packed[j] = to_float(byte);
    requantise<16, 0, 3>(x + 16 * j, d * to_float(byte & I::set(15)), dmin * to_float(shift_right<4>(byte)),
                         q + 16 * j);
  }
  for (int j = 0; j < 16; j += 4) group.put_bytes(four(packed + j), j);
  I words[64];
  words_of<256>(q, words);
  put_quants<0, 2, 32, 256>(group, words, 16);
}

using Encoder = void (*)(Group&);

template <bool has_importance> Encoder encoder_of(Codec codec) {
  switch (codec) {
    case Codec::q4_0: return encode_signed<4, has_importance>;
    case Codec::q4_1: return encode_with_minimum<4, has_importance>;
    case Codec::q5_0: return encode_signed<5, has_importance>;
    case Codec::q5_1: return encode_with_minimum<5, has_importance>;
    case Codec::q8_0: return encode_q8_0;
    case Codec::q2_k: return encode_q2_k<has_importance>;
    case Codec::q3_k: return encode_q3_k<has_importance>;
    case Codec::q4_k: return encode_k4<4, has_importance>;
    case Codec::q5_k: return encode_k4<5, has_importance>;
    case Codec::q6_k: return encode_q6_k<has_importance>;
    default: return nullptr;
  }
}

constexpr int kMostColumns = 256, kMostBytes = 210;  // of a block

}  // namespace

bool encode(Codec codec, const float* x, const float* importance, const float* mean_squares, int64_t columns,
            int64_t first, int64_t last, uint8_t* out) {
  const Encoder encoder = importance ? encoder_of<true>(codec) : encoder_of<false>(codec);
  const int64_t size = unit_columns(codec), bytes = sizes(codec).file_bytes, per_row = columns / size;
  static const float zeros[kMostColumns] = {};
  uint8_t spare[kMostBytes];
  Group group;
  for (int64_t block = first; block < last; block += kLanes) {
    float of_rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t i = block + lane;
      const bool is_there = i < last;
      group.x[lane] = is_there ? x + i * size : zeros;
      group.importance[lane] = is_there && importance ? importance + i % per_row * size : zeros;
      group.out[lane] = is_there ? out + i * bytes : spare;
      of_rows[lane] = is_there && mean_squares ? mean_squares[i / per_row] : 0.0f;
    }
    group.mean_square = F::load(of_rows);
    encoder(group);
  }
  return group.is_held;
}

void mean_squares(const float* x, int64_t n_rows, int64_t columns, float* out) {
  static const float zeros[kBlock] = {};
  for (int64_t row = 0; row < n_rows; row += kLanes) {
    F sum = F::zero(), values[kBlock];
    for (int64_t column = 0; column < columns; column += kBlock) {
      const float* rows[kLanes];
      for (int lane = 0; lane < kLanes; ++lane)
        rows[lane] = row + lane < n_rows ? x + (row + lane) * columns + column : zeros;
      load_columns<kBlock>(rows, values);
      for (int i = 0; i < kBlock; ++i) sum = sum + values[i] * values[i];
    }
    const int64_t n = n_rows - row;
    store(sum / F::set(float(columns)), out + row, n < kLanes ? int(n) : kLanes);
  }
}

}  // namespace apr::APR_ISA
