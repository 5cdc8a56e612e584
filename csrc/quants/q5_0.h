// Q5_0: 32 weights of 5 bits and a scale. Row block: 4 vectors of nibbles, 1 of fifth bits, 16 scales.
// NumPy: kernels/quants/q5_0.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q5_0 {
  static constexpr int columns = 32, group = 32, bits = 5, offset = 16, file_bytes = 22, bytes = 352;
  static constexpr bool has_minimum = false;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 6, 4, out);
    interleave_fifth_bits(rows, at + 2, out + 256);
    interleave_halves(rows, at, out + 320);
  }

  struct Unit {
    const uint8_t* p;
    F d;
    Unit(const uint8_t* unit, int row) : p(unit + 4 * row), d(F::load_f16(unit + 320 + 2 * row)) {}
    template <int sub> void unpack(B (&w)[8]) const {
      unpack_nibbles(p, w);
      add_fifth_bits(B::load(p + 256), w);
    }
    F factor(int) const { return d; }
    F minimum(int) const { return F::zero(); }
  };
};

}  // namespace apr::APR_ISA
