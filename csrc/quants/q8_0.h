// Q8_0: 32 signed weights of 8 bits and a scale. Row block: 8 vectors of weights, 16 scales.
// NumPy: kernels/quants/q8_0.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q8_0 {
  static constexpr int columns = 32, group = 32, bits = 8, offset = 0, file_bytes = 34, bytes = 544;
  static constexpr bool has_minimum = false;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 2, 8, out);
    interleave_halves(rows, at, out + 512);
  }

  struct Unit {
    const uint8_t* p;
    F d;
    Unit(const uint8_t* unit, int row) : p(unit + 4 * row), d(F::load_f16(unit + 512 + 2 * row)) {}
    template <int sub> void unpack(B (&w)[8]) const {
      for (int i = 0; i < 8; ++i) w[i] = B::load(p + 64 * i);
    }
    F factor(int) const { return d; }
    F minimum(int) const { return F::zero(); }
  };
};

}  // namespace apr::APR_ISA
