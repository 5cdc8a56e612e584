// Blocks of floats side by side, a block a lane: how they come in, and how their quants go out as bytes.
#pragma once

#include <cstring>

#include "quants/all.h"

namespace apr::APR_ISA {

constexpr int kLanes = F::lanes;

// Blocks side by side: where each begins, and where it goes. Lanes without a block read zeros and write into `spare`.
struct Group {
  const float* x[kLanes];
  const float* importance[kLanes];
  uint8_t* out[kLanes];
  F mean_square;  // of the row, where the importance asks for it
  bool is_held = true;  // no value or scale so far was too large or no number

  void put_bytes(I four, int at) {
    int32_t words[kLanes];
    four.store(words);
    for (int lane = 0; lane < kLanes; ++lane) std::memcpy(out[lane] + at, &words[lane], 4);
  }

  // Stores a scale as F16, and returns what was stored.
  F put_half(F x, int at) {
    uint16_t halves[kLanes];
    x.store_f16(halves);
    for (int lane = 0; lane < kLanes; ++lane) {
      std::memcpy(out[lane] + at, &halves[lane], 2);
      is_held = is_held && (halves[lane] & 0x7c00) != 0x7c00;
    }
    return F::load_f16(halves);
  }
};

// n floats of each lane, lane beside lane.
template <int n> inline void load_columns(const float* const* rows, F* x) {
  static_assert(n % kLanes == 0);
  for (int i = 0; i < n; i += kLanes) {
    F tile[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) tile[lane] = F::load(rows[lane] + i);
    transpose(tile);
    for (int j = 0; j < kLanes; ++j) x[i + j] = tile[j];
  }
}

// More than any codec can hold; sums of cubes stay below the end of the floats. NumPy: LARGEST of
// kernels/quants/_ggml.py.
constexpr float kLargest = 1e9f;

// The same, and whether all can be held: positive floats have the order of their bits, and NaN is above them.
template <int n> inline void load_values(Group& group, F* x) {
  load_columns<n>(group.x, x);
  I most = I::set(0);
  for (int i = 0; i < n; ++i) most = max(most, float_to_bits(abs(x[i])));
  if (any(!at_most(bits_to_float(most), F::set(kLargest)))) group.is_held = false;
}

// Four quants in the bytes of a word, the first lowest.
inline I four(const F* a) {
  return to_int(a[0]) | shift_left<8>(to_int(a[1])) | shift_left<16>(to_int(a[2])) | shift_left<24>(to_int(a[3]));
}

// Bits `from` .. `from + bits` of each byte.
template <int from, int bits> inline I bits_of(I bytes) {
  return shift_right<from>(bytes) & I::set(((1 << bits) - 1) * 0x01010101);
}

// The bits `from` .. `from + bits` of n quants into bytes, of which each `width` hold first what comes first, in their
// lowest bits (kernels/quants/_bits.py, pack).
template <int from, int bits, int width, int n> inline void put_quants(Group& group, const I* words, int at) {
  constexpr int lanes = 8 / bits;
  for (int run = 0; run < n / (lanes * width); ++run)
    for (int i = 0; i < width / 4; ++i) {
      const I* w = words + (run * lanes * width) / 4 + i;
      I packed = bits_of<from, bits>(w[0]);
      unrolled<lanes - 1>([&](auto lane) {
        constexpr int next = decltype(lane)::value + 1;
        packed = packed | shift_left<next * bits>(bits_of<from, bits>(w[next * width / 4]));
      });
      group.put_bytes(packed, at + run * width + 4 * i);
    }
}

// Bit `from` of each of 32 quants, one after the other, into four bytes.
template <int from> inline void put_bits_in_order(Group& group, const F* q, int at) {
  I bits = I::set(0);
  unrolled<32>([&](auto i) {
    bits = bits | shift_left<i.value>(shift_right<from>(to_int(q[i.value])) & I::set(1));
  });
  group.put_bytes(bits, at);
}

template <int n> inline void words_of(const F* q, I* words) {
  for (int i = 0; i < n / 4; ++i) words[i] = four(q + 4 * i);
}

}  // namespace apr::APR_ISA
