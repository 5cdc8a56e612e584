// Q5_K: 256 weights of 5 bits; each 32 have a 6-bit scale and a 6-bit minimum. Row block: 32 vectors of nibbles, 8 of
// fifth bits, scales and minima as bytes (K4Scales). NumPy: kernels/quants/q5_k.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q5_K {
  static constexpr int columns = 256, group = 32, bits = 5, offset = 0, file_bytes = 176;
  static constexpr int bytes = 2048 + 512 + kK4ScaleBytes;
  static constexpr bool has_minimum = true;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 48, 32, out);
    interleave_words(rows, at + 16, 8, out + 2048);
    pack_k4_scales(rows, at, out + 2560);
  }

  struct Unit {
    const uint8_t* p;
    K4Scales scales;
    Unit(const uint8_t* unit, int row) : p(unit + 4 * row), scales(unit + 2560, row) {}
    // each 8 vectors of nibbles hold 64 columns: 32 low, then 32 high; bit `sub` of the fifth bits belongs to these 32
    template <int sub> void unpack(B (&w)[8]) const {
      for (int i = 0; i < 8; ++i)
        w[i] = moved<4 * (sub % 2), 0, 15>(B::load(p + 64 * (8 * (sub / 2) + i))) |
               moved<sub, 4, 16>(B::load(p + 2048 + 64 * i));
    }
    F factor(int i) const { return scales.factor(i); }
    F minimum(int i) const { return scales.minimum(i); }
  };
};

}  // namespace apr::APR_ISA
