// Q3_K: 256 weights of 3 bits; each 16 have a 6-bit scale. Row block: 8 vectors of third bits, 16 vectors of 2-bit
// fields, [16 groups][16 rows] signed bytes of scale - 32, 16 d. NumPy: kernels/quants/q3_k.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q3_K {
  static constexpr int columns = 256, group = 16, bits = 3, offset = 4, file_bytes = 110, bytes = 1824;
  static constexpr bool has_minimum = false;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at, 8, out);
    interleave_words(rows, at + 32, 16, out + 512);
    for (int r = 0; r < kRowsPerBlock; ++r) {
      uint8_t scales[16] = {};
      if (rows[r]) unpack_scales(rows[r] + at + 96, scales);
      scatter_bytes(scales, 16, r, out + 1536);
    }
    interleave_halves(rows, at + 108, out + 1792);
  }

  struct Unit {
    const uint8_t *p, *scales;
    F d;
    Unit(const uint8_t* unit, int row)
        : p(unit + 4 * row), scales(unit + 1536 + row), d(F::load_f16(unit + 1792 + 2 * row)) {}
    // each 8 vectors of pairs hold 128 columns, 32 in each pair; bit `sub` of the third bits belongs to these 32
    template <int sub> void unpack(B (&w)[8]) const {
      for (int i = 0; i < 8; ++i)
        w[i] = moved<2 * (sub % 4), 0, 3>(B::load(p + 512 + 64 * (8 * (sub / 4) + i))) |
               moved<sub, 2, 4>(B::load(p + 64 * i));
    }
    F factor(int i) const { return d * to_float(I::load_i8(scales + 16 * i)); }
    F minimum(int) const { return F::zero(); }
  };

 private:
  // 16 scales of 6 bits in 12 bytes: ggml-quants.c, dequantize_row_q3_K
  static void unpack_scales(const uint8_t* s, uint8_t (&scales)[16]) {
    for (int i = 0; i < 16; ++i) {
      const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
      const int high = (s[8 + i % 4] >> (2 * (i / 4))) & 3;
      scales[i] = uint8_t((low | high << 4) - 32);
    }
  }
};

}  // namespace apr::APR_ISA
