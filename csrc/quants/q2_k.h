// Q2_K: 256 weights of 2 bits; each 16 have a 4-bit scale and a 4-bit minimum. Row block: 16 vectors of 2-bit fields,
// [16 groups][16 rows] bytes of scale (low) and minimum (high), 16 d, 16 dmin. NumPy: kernels/quants/q2_k.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q2_K {
  static constexpr int columns = 256, group = 16, bits = 2, offset = 0, file_bytes = 84, bytes = 1344;
  static constexpr bool has_minimum = true;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    const uint8_t zeros[16] = {};
    interleave_words(rows, at + 16, 16, out);
    for (int r = 0; r < kRowsPerBlock; ++r) scatter_bytes(rows[r] ? rows[r] + at : zeros, 16, r, out + 1024);
    interleave_halves(rows, at + 80, out + 1280);
    interleave_halves(rows, at + 82, out + 1312);
  }

  struct Unit {
    const uint8_t *p, *scales;
    F d, dmin;
    Unit(const uint8_t* unit, int row)
        : p(unit + 4 * row), scales(unit + 1024 + row), d(F::load_f16(unit + 1280 + 2 * row)),
          dmin(F::load_f16(unit + 1312 + 2 * row)) {}
    // each 8 vectors hold 128 columns, 32 in each pair of bits
    template <int sub> void unpack(B (&w)[8]) const {
      for (int i = 0; i < 8; ++i) w[i] = moved<2 * (sub % 4), 0, 3>(B::load(p + 64 * (8 * (sub / 4) + i)));
    }
    F factor(int i) const { return d * to_float(I::load_u8(scales + 16 * i) & I::set(15)); }
    F minimum(int i) const { return dmin * to_float(shift_right<4>(I::load_u8(scales + 16 * i))); }
  };
};

}  // namespace apr::APR_ISA
