// Q4_0: 32 weights of 4 bits and a scale. Row block: 4 vectors of nibbles, 16 scales. NumPy: kernels/quants/q4_0.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q4_0 {
  static constexpr int columns = 32, group = 32, bits = 4, offset = 8, file_bytes = 18, bytes = 288;
  static constexpr bool has_minimum = false;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 2, 4, out);
    interleave_halves(rows, at, out + 256);
  }

  struct Unit {
    const uint8_t* p;
    F d;
    Unit(const uint8_t* unit, int row) : p(unit + 4 * row), d(F::load_f16(unit + 256 + 2 * row)) {}
    template <int sub> void unpack(B (&w)[8]) const { unpack_nibbles(p, w); }
    F factor(int) const { return d; }
    F minimum(int) const { return F::zero(); }
  };
};

}  // namespace apr::APR_ISA
