// Q4_1: 32 weights of 4 bits, a scale and what is added. Row block: 4 vectors of nibbles, 16 scales, 16 addends.
// NumPy: kernels/quants/q4_1.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q4_1 {
  static constexpr int columns = 32, group = 32, bits = 4, offset = 0, file_bytes = 20, bytes = 320;
  static constexpr bool has_minimum = true;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 4, 4, out);
    interleave_halves(rows, at, out + 256);
    interleave_halves(rows, at + 2, out + 288);
  }

  struct Unit {
    const uint8_t* p;
    F d, m;
    Unit(const uint8_t* unit, int row)
        : p(unit + 4 * row), d(F::load_f16(unit + 256 + 2 * row)), m(F::load_f16(unit + 288 + 2 * row)) {}
    template <int sub> void unpack(B (&w)[8]) const { unpack_nibbles(p, w); }
    F factor(int) const { return d; }
    F minimum(int) const { return F::zero() - m; }
  };
};

}  // namespace apr::APR_ISA
