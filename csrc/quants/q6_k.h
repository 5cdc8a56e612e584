// Q6_K: 256 weights of 6 bits; each 16 have a signed 8-bit scale. Row block: 32 vectors of nibbles, 16 of 2-bit fields,
// [16 groups][16 rows] signed bytes of scale, 16 d. NumPy: kernels/quants/q6_k.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q6_K {
  static constexpr int columns = 256, group = 16, bits = 6, offset = 32, file_bytes = 210, bytes = 3360;
  static constexpr bool has_minimum = false;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    const uint8_t zeros[16] = {};
    interleave_words(rows, at, 32, out);
    interleave_words(rows, at + 128, 16, out + 2048);
    for (int r = 0; r < kRowsPerBlock; ++r) scatter_bytes(rows[r] ? rows[r] + at + 192 : zeros, 16, r, out + 3072);
    interleave_halves(rows, at + 208, out + 3328);
  }

  struct Unit {
    const uint8_t *p, *scales;
    F d;
    Unit(const uint8_t* unit, int row)
        : p(unit + 4 * row), scales(unit + 3072 + row), d(F::load_f16(unit + 3328 + 2 * row)) {}
    // each half of 128 columns: 16 vectors of nibbles, the first 64 columns low, the last 64 high; 8 of bit pairs
    template <int sub> void unpack(B (&w)[8]) const {
      constexpr int half = sub / 4, quarter = sub % 4;
      for (int i = 0; i < 8; ++i)
        w[i] = moved<4 * (quarter / 2), 0, 15>(B::load(p + 64 * (16 * half + 8 * (quarter % 2) + i))) |
               moved<2 * quarter, 4, 48>(B::load(p + 2048 + 64 * (8 * half + i)));
    }
    F factor(int i) const { return d * to_float(I::load_i8(scales + 16 * i)); }
    F minimum(int) const { return F::zero(); }
  };
};

}  // namespace apr::APR_ISA
