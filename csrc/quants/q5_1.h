// Q5_1: 32 weights of 5 bits, a scale and what is added. Row block: 4 vectors of nibbles, 1 of fifth bits, 16 scales,
// 16 addends. NumPy: kernels/quants/q5_1.py.
#pragma once

#include "unit.h"

namespace apr::APR_ISA {

struct Q5_1 {
  static constexpr int columns = 32, group = 32, bits = 5, offset = 0, file_bytes = 24, bytes = 384;
  static constexpr bool has_minimum = true;

  static void pack(Rows rows, int64_t at, uint8_t* out) {
    interleave_words(rows, at + 8, 4, out);
    interleave_fifth_bits(rows, at + 4, out + 256);
    interleave_halves(rows, at, out + 320);
    interleave_halves(rows, at + 2, out + 352);
  }

  struct Unit {
    const uint8_t* p;
    F d, m;
    Unit(const uint8_t* unit, int row)
        : p(unit + 4 * row), d(F::load_f16(unit + 320 + 2 * row)), m(F::load_f16(unit + 352 + 2 * row)) {}
    template <int sub> void unpack(B (&w)[8]) const {
      unpack_nibbles(p, w);
      add_fifth_bits(B::load(p + 256), w);
    }
    F factor(int) const { return d; }
    F minimum(int) const { return F::zero() - m; }
  };
};

}  // namespace apr::APR_ISA
