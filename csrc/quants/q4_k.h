// Q4_K: 256 weights of 4 bits; each 32 have a 6-bit scale and a 6-bit minimum. Row block: 32 vectors of nibbles, scales
// and minima as bytes (K4Scales). NumPy: kernels/quants/q4_k.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q4_K {
  static constexpr int columns = 256, group = 32, bits = 4, offset = 0, file_bytes = 144;
  static constexpr int bytes = 2048 + kK4ScaleBytes;
  static constexpr bool has_minimum = true;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 16, 32, out);
    pack_k4_scales(rows, at, out + 2048);
  }

  struct Unit {
    const uint8_t* p;
    K4Scales scales;
    Unit(const uint8_t* unit, int row) : p(unit + 4 * row), scales(unit + 2048, row) {}
    // each 8 vectors hold 64 columns: 32 low, then 32 high
    template <int sub> void unpack(B (&w)[8]) const {
      for (int i = 0; i < 8; ++i) w[i] = moved<4 * (sub % 2), 0, 15>(B::load(p + 64 * (8 * (sub / 2) + i)));
    }
    F factor(int i) const { return scales.factor(i); }
    F minimum(int i) const { return scales.minimum(i); }
  };
};

}  // namespace apr::APR_ISA
