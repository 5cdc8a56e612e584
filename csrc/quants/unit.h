// What every block codec's file needs: how rows of a file become a row block, and how fields come out of one.
//
// A codec's struct has: columns (of one unit), group (columns that share a scale), bits and offset (a weight is its
// unsigned bits less the offset; 8 bits are signed), has_minimum, file_bytes (one row's unit in the file), bytes (16
// rows' units in a row block); pack; and a Unit, which is a unit seen by the rows of one vector: unpack<sub> gives
// the weights of its sub'th 32 columns, 4 in each 32-bit lane; factor(i) and minimum(i) belong to its i'th group:
//     x = factor * (q - offset) - minimum
#pragma once

#include <cstdint>
#include <cstring>

#include "../simd/simd.h"

namespace apr::APR_ISA {

static_assert(F::lanes == B::rows);

using Rows = const uint8_t* const*;  // 16 rows of the file; null is a row of zeros

// The n words at `offset` of each row, row beside row.
inline void interleave_words(Rows rows, int64_t offset, int n, uint8_t* out) {
  for (int r = 0; r < kRowsPerBlock; ++r)
    for (int i = 0; i < n; ++i) {
      uint32_t word = 0;
      if (rows[r]) std::memcpy(&word, rows[r] + offset + 4 * i, 4);
      std::memcpy(out + 64 * i + 4 * r, &word, 4);
    }
}

// The float16 at `offset` of each row, row beside row.
inline void interleave_halves(Rows rows, int64_t offset, uint8_t* out) {
  for (int r = 0; r < kRowsPerBlock; ++r) {
    uint16_t half = 0;
    if (rows[r]) std::memcpy(&half, rows[r] + offset, 2);
    std::memcpy(out + 2 * r, &half, 2);
  }
}

// Bytes of one row, at a distance of 16: scales of 16 rows side by side.
inline void scatter_bytes(const uint8_t* bytes, int n, int row, uint8_t* out) {
  for (int i = 0; i < n; ++i) out[16 * i + row] = bytes[i];
}

// Word r: the fifth bits of row r's 32 weights, such that bit i of byte b belongs to column 4 i + b, which is byte b of
// the i'th vector of weights.
inline void interleave_fifth_bits(Rows rows, int64_t offset, uint8_t* out) {
  for (int r = 0; r < kRowsPerBlock; ++r) {
    uint32_t high = 0, word = 0;
    if (rows[r]) std::memcpy(&high, rows[r] + offset, 4);
    for (int b = 0; b < 4; ++b) {
#ifdef __BMI2__
      word |= _pext_u32(high, 0x11111111u << b) << (8 * b);
#else
      uint32_t bits = (high >> b) & 0x11111111u;  // every fourth bit, drawn together in three steps
      bits = (bits | bits >> 3) & 0x03030303u;
      bits = (bits | bits >> 6) & 0x000f000fu;
      word |= ((bits | bits >> 12) & 0xffu) << (8 * b);
#endif
    }
    std::memcpy(out + 4 * r, &word, 4);
  }
}

// The bits `mask` of each byte, after bit `from` was moved to bit `to`.
template <int from, int to, int mask> inline B moved(B x) {
  if constexpr (from > to) return shift_right<from - to>(x) & B::set(mask);
  else if constexpr (from < to) return shift_left<to - from>(x) & B::set(mask);
  else return x & B::set(mask);
}

// 8 vectors of 4-bit weights out of 4: low nibbles are columns 0..15, high nibbles 16..31.
inline void unpack_nibbles(const uint8_t* p, B (&w)[8]) {
  for (int i = 0; i < 4; ++i) {
    const B v = B::load(p + 64 * i);
    w[i] = v & B::set(0x0f);
    w[i + 4] = moved<4, 0, 0x0f>(v);
  }
}

inline void add_fifth_bits(B plane, B (&w)[8]) {
  w[0] = w[0] | moved<0, 4, 0x10>(plane);
  w[1] = w[1] | moved<1, 4, 0x10>(plane);
  w[2] = w[2] | moved<2, 4, 0x10>(plane);
  w[3] = w[3] | moved<3, 4, 0x10>(plane);
  w[4] = w[4] | moved<4, 4, 0x10>(plane);
  w[5] = w[5] | moved<5, 4, 0x10>(plane);
  w[6] = w[6] | moved<6, 4, 0x10>(plane);
  w[7] = w[7] | moved<7, 4, 0x10>(plane);
}

// ggml-quants.c, get_scale_min_k4: eight 6-bit scales and eight 6-bit minima in 12 bytes.
inline void unpack_k4_scales(const uint8_t* s, uint8_t (&scales)[8], uint8_t (&minima)[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = s[i] & 63;
    minima[i] = s[i + 4] & 63;
    scales[i + 4] = uint8_t((s[i + 8] & 15) | (s[i] >> 6) << 4);
    minima[i + 4] = uint8_t((s[i + 8] >> 4) | (s[i + 4] >> 6) << 4);
  }
}

// Scales and minima of q4_k and q5_k: [8][16] scales, [8][16] minima, [16] d, [16] dmin.
constexpr int kK4ScaleBytes = 128 + 128 + 32 + 32;
inline void pack_k4_scales(Rows rows, int64_t offset, uint8_t* out) {
  for (int r = 0; r < kRowsPerBlock; ++r) {
    uint8_t scales[8] = {}, minima[8] = {};
    if (rows[r]) unpack_k4_scales(rows[r] + offset + 4, scales, minima);
    scatter_bytes(scales, 8, r, out);
    scatter_bytes(minima, 8, r, out + 128);
  }
  interleave_halves(rows, offset, out + 256);
  interleave_halves(rows, offset + 2, out + 288);
}

struct K4Scales {
  const uint8_t* p;
  F d, dmin;
  K4Scales(const uint8_t* scales, int row)
      : p(scales + row), d(F::load_f16(scales + 256 + 2 * row)), dmin(F::load_f16(scales + 288 + 2 * row)) {}
  F factor(int i) const { return d * to_float(I::load_u8(p + 16 * i)); }
  F minimum(int i) const { return dmin * to_float(I::load_u8(p + 128 + 16 * i)); }
};

}  // namespace apr::APR_ISA
