// Weights of the block codecs: rows of a file into row blocks, and one row into floats.
//
// Row blocks are laid out such that packing moves whole 32-bit words of the file: it runs at the speed of memory.
#include "kernels.h"
#include "quants/all.h"

namespace apr::APR_ISA {

void pack(Codec codec, const uint8_t* const rows[kRowsPerBlock], int64_t columns, uint8_t* out) {
  with_block_codec(codec, [&](auto q) {
    using Q = decltype(q);
    for (int64_t u = 0; u < columns / Q::columns; ++u) Q::pack(rows, u * Q::file_bytes, out + u * Q::bytes);
  });
}

namespace {

// Row 0 of a row block of one unit: value by value as the NumPy codec computes it.
template <class Q> void decode_unit(const uint8_t* unit_bytes, float* out) {
  const typename Q::Unit unit(unit_bytes, 0);
  unrolled<Q::columns / kBlock>([&](auto sub) {
    B w[8];
    unit.template unpack<sub.value>(w);
    float factor[F::lanes], minimum[F::lanes];
    for (int i = 0; i < kBlock; ++i) {
      if (i % Q::group == 0) {
        const int group = (sub.value * kBlock + i) / Q::group;
        unit.factor(group).store(factor);
        unit.minimum(group).store(minimum);
      }
      uint8_t lane[sizeof(B)];
      std::memcpy(lane, &w[i / 4], sizeof lane);
      const float q = Q::bits == 8 ? float(int8_t(lane[i % 4])) : float(lane[i % 4]) - Q::offset;
      const float product = factor[0] * q;
      out[sub.value * kBlock + i] = Q::has_minimum ? product - minimum[0] : product;
    }
  });
}

}  // namespace

void decode_row(Codec codec, const uint8_t* row, int64_t columns, float* out) {
  const bool is_block_codec = with_block_codec(codec, [&](auto q) {
    using Q = decltype(q);
    const uint8_t* rows[kRowsPerBlock] = {row};
    alignas(64) uint8_t unit[Q::bytes];
    for (int64_t u = 0; u < columns / Q::columns; ++u) {
      Q::pack(rows, u * Q::file_bytes, unit);
      decode_unit<Q>(unit, out + u * Q::columns);
    }
  });
  if (is_block_codec) return;
  if (codec == Codec::f32) {
    std::memcpy(out, row, columns * sizeof(float));
    return;
  }
  for_lanes(columns, [&](int64_t i, int n) {
    uint16_t halves[F::lanes] = {};
    std::memcpy(halves, row + 2 * i, n * sizeof(uint16_t));
    store(codec == Codec::f16 ? F::load_f16(halves) : F::load_bf16(halves), out + i, n);
  });
}

}  // namespace apr::APR_ISA
