// y = x Wᵀ + b, for weights in row blocks and in plain rows.
//
// Block codecs, 8-bit activations: products of a block of 32 are summed exactly in integers, then scaled and added in
// float32, block after block: acc = fma(float(sum) * factor, scale of x, acc). The order is the same for every number
// of tokens and every split of the rows, so batched, prefilled and single results are equal bit for bit, and equal on
// all instruction sets with a fused multiply-add. Against NumPy's product of the same quantised x: float32 rounding,
// |error| <= 2e-6 * sum |x w|. Quantising x itself: at most half a step, max|x| / 254, an element.
// Exact activations, and f16, bf16, f32 weights: float32 sums, |error| <= 2e-6 * sum |x w|.
#include "kernels.h"
#include "ops.h"
#include "quants/all.h"

namespace apr::APR_ISA {
namespace {

constexpr int kParts = kRowsPerBlock / B::rows;  // vectors that cover the rows of a row block
constexpr int kGroupOfBlocks = 4;                // row blocks that pass over one tile of tokens while it is in cache
constexpr int kPrefetchBytes = 4096;             // ahead of the weights, across pages: the hardware stops at their ends

// Tokens whose sums the registers hold. A tile that is wider, or of two tokens, is passed over in pieces.
constexpr int kQuantWidth = F::lanes == 16 ? 16 : F::lanes == 8 ? 4 : 8;
template <class X> constexpr int kWidth = sizeof(X) == sizeof(FloatBlock) ? 4 : kQuantWidth;

// One block of 32 columns times the blocks of W tokens, 8-bit activations.
template <class Q, int W>
inline void accumulate(F (&acc)[W], const B (&w)[8], const F* factor, const F* minimum, const QuantBlock* x) {
  for (int t = 0; t < W; ++t) {
    if constexpr (Q::group == kBlock) {
      const I sum = dot<Q::bits, Q::offset, 8>(w, x[t].q, x[t].neg_sum[2]);
      acc[t] = fma(to_float(sum) * factor[0], F::set(x[t].scale), acc[t]);
      if constexpr (Q::has_minimum) acc[t] = fma(minimum[0], F::set(x[t].neg_scaled_sum[2]), acc[t]);
    } else {
      const I first = dot<Q::bits, Q::offset, 4>(w, x[t].q, x[t].neg_sum[0]);
      const I second = dot<Q::bits, Q::offset, 4>(w + 4, x[t].q + 16, x[t].neg_sum[1]);
      const F sum = fma(to_float(second), factor[1], to_float(first) * factor[0]);
      acc[t] = fma(sum, F::set(x[t].scale), acc[t]);
      if constexpr (Q::has_minimum) {
        acc[t] = fma(minimum[0], F::set(x[t].neg_scaled_sum[0]), acc[t]);
        acc[t] = fma(minimum[1], F::set(x[t].neg_scaled_sum[1]), acc[t]);
      }
    }
  }
}

// The same with float32 activations.
template <class Q, int W>
inline void accumulate(F (&acc)[W], const B (&w)[8], const F* factor, const F* minimum, const FloatBlock* x) {
  constexpr int vectors = Q::group / 4;  // that share a factor
  for (int g = 0; g < 8 / vectors; ++g) {
    F sum[W];
    for (int t = 0; t < W; ++t) sum[t] = F::zero();
    for (int i = g * vectors; i < (g + 1) * vectors; ++i) {
      const I four = lanes(Q::bits == 8 ? w[i] : w[i] - B::set(Q::offset));
      const F weight[4] = {to_float(shift_right<24>(shift_left<24>(four))),
                           to_float(shift_right<24>(shift_left<16>(four))),
                           to_float(shift_right<24>(shift_left<8>(four))), to_float(shift_right<24>(four))};
      for (int t = 0; t < W; ++t)
        for (int j = 0; j < 4; ++j) sum[t] = fma(weight[j], F::set(x[t].x[4 * i + j]), sum[t]);
    }
    for (int t = 0; t < W; ++t) {
      acc[t] = fma(sum[t], factor[g], acc[t]);
      if constexpr (Q::has_minimum)
        acc[t] = fma(minimum[g], F::set(x[t].neg_sum[Q::group == kBlock ? 2 : g]), acc[t]);
    }
  }
}

// A row block times W tokens of a tile of `width`: acc[part][t] are the products of the part's rows.
template <class Q, int W, class X>
inline void row_block(const uint8_t* w, const X* x, int width, int64_t n_units, F (&acc)[kParts][W]) {
  constexpr int subs = Q::columns / kBlock, groups = kBlock / Q::group;
  for (int part = 0; part < kParts; ++part)
    for (int t = 0; t < W; ++t) acc[part][t] = F::zero();
  for (int64_t u = 0; u < n_units; ++u, w += Q::bytes, x += subs * width) {
    if constexpr (W == 1)
      for (int i = 0; i < Q::bytes; i += 64) prefetch(w + kPrefetchBytes + i);
    for (int part = 0; part < kParts; ++part) {
      const typename Q::Unit unit(w, part * B::rows);
      unrolled<subs>([&](auto sub) {
        B weights[8];
        unit.template unpack<sub.value>(weights);
        F factor[groups], minimum[groups];
        for (int g = 0; g < groups; ++g) {
          factor[g] = unit.factor(sub.value * groups + g);
          minimum[g] = unit.minimum(sub.value * groups + g);
        }
        accumulate<Q, W>(acc[part], weights, factor, minimum, x + sub.value * width);
      });
    }
  }
}

struct Output {
  const float* bias;
  float* out;  // [n_tokens][stride]
  int64_t stride, rows;

  void put(F value, int64_t row, int64_t token) const {
    const int n = int(rows - row < F::lanes ? rows - row : F::lanes);
    if (n <= 0) return;  // a row of padding
    if (bias) value = value + load(bias + row, n);
    store(value, out + token * stride + row, n);
  }
};

template <class Q, int W, class X>
void tile(const Matrix& m, const X* x, int width, int64_t first, int64_t last, int64_t token, const Output& out) {
  if constexpr (W > kWidth<X>) {
    tile<Q, W / 2>(m, x, width, first, last, token, out);
    tile<Q, W / 2>(m, x + W / 2, width, first, last, token + W / 2, out);
  } else if constexpr (W == 2) {
    tile<Q, 1>(m, x, width, first, last, token, out);
    tile<Q, 1>(m, x + 1, width, first, last, token + 1, out);
  } else {
    for (int64_t block = first; block < last; ++block) {
      F acc[kParts][W];
      row_block<Q, W>(m.data + block * m.row_block_bytes, x, width, m.columns / Q::columns, acc);
      for (int part = 0; part < kParts; ++part)
        for (int t = 0; t < W; ++t) out.put(acc[part][t], block * kRowsPerBlock + part * B::rows, token + t);
    }
  }
}

template <class Q, class X>
void all_tiles(const Matrix& m, const X* x, int64_t n_tokens, const Output& out, int64_t first, int64_t last) {
  const int64_t n_blocks = m.columns / kBlock;
  for (int64_t block = first; block < last; block += kGroupOfBlocks) {
    const int64_t end = block + kGroupOfBlocks < last ? block + kGroupOfBlocks : last;
    for (int64_t t = 0; t < n_tokens; t += tile_width(n_tokens - t)) {
      const X* blocks = x + t * n_blocks;
      const int width = tile_width(n_tokens - t);
      switch (width) {
        case 16: tile<Q, 16>(m, blocks, width, block, end, t, out); break;
        case 8: tile<Q, 8>(m, blocks, width, block, end, t, out); break;
        case 4: tile<Q, 4>(m, blocks, width, block, end, t, out); break;
        case 2: tile<Q, 2>(m, blocks, width, block, end, t, out); break;
        default: tile<Q, 1>(m, blocks, width, block, end, t, out); break;
      }
    }
  }
}

// Row-major weights: what one element is, and how a vector of them is loaded.
struct Float32 {
  static constexpr int bytes = 4;
  static F load(const uint8_t* p) { return F::load(reinterpret_cast<const float*>(p)); }
};
struct Float16 {
  static constexpr int bytes = 2;
  static F load(const uint8_t* p) { return F::load_f16(p); }
};
struct BFloat16 {
  static constexpr int bytes = 2;
  static F load(const uint8_t* p) { return F::load_bf16(p); }
};

template <class T> inline F load_weights(const uint8_t* p, int n) {
  if (n == F::lanes) return T::load(p);
  uint8_t padded[F::lanes * T::bytes] = {};
  std::memcpy(padded, p, n * T::bytes);
  return T::load(padded);
}

// R rows times W tokens; a lane sums every F::lanes'th column.
template <class T, int R, int W>
inline void plain_tile(const Matrix& m, const Input& x, int64_t row, int64_t token, float (&out)[W][R]) {
  const uint8_t* w = m.data + row * m.columns * T::bytes;
  const float* y = x.rows + token * x.row_stride;
  F acc[R][W];
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < W; ++t) acc[r][t] = F::zero();
  for_lanes(m.columns, [&](int64_t i, int n) {
    F weight[R];
    for (int r = 0; r < R; ++r) weight[r] = load_weights<T>(w + (r * m.columns + i) * T::bytes, n);
    for (int t = 0; t < W; ++t) {
      const F activation = load(y + t * x.row_stride + i, n);
      for (int r = 0; r < R; ++r) acc[r][t] = fma(weight[r], activation, acc[r][t]);
    }
  });
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < W; ++t) out[t][r] = sum(acc[r][t]);
}

template <class T, int R, int W>
inline void plain_rows(const Matrix& m, const Input& x, int64_t row, int64_t token, const Output& out) {
  float products[W][R];
  plain_tile<T, R, W>(m, x, row, token, products);
  for (int t = 0; t < W; ++t)
    for (int r = 0; r < R; ++r)
      out.out[(token + t) * out.stride + row + r] = products[t][r] + (out.bias ? out.bias[row + r] : 0.0f);
}

template <class T>
void plain(const Matrix& m, const Input& x, const Output& out, int64_t first, int64_t last) {
  constexpr int R = 4, W = F::lanes == 16 ? 4 : 2;  // as many sums as the registers hold
  const int64_t end = last * kRowsPerBlock < m.rows ? last * kRowsPerBlock : m.rows;
  for (int64_t row = first * kRowsPerBlock; row < end;) {
    const bool is_full = row + R <= end;
    int64_t t = 0;
    for (; t + W <= x.n_tokens; t += W) {
      if (is_full) plain_rows<T, R, W>(m, x, row, t, out);
      else plain_rows<T, 1, W>(m, x, row, t, out);
    }
    for (; t < x.n_tokens; ++t) {
      if (is_full) plain_rows<T, R, 1>(m, x, row, t, out);
      else plain_rows<T, 1, 1>(m, x, row, t, out);
    }
    row += is_full ? R : 1;
  }
}

}  // namespace

void linear(const Matrix& m, const Input& x, const float* bias, float* out, int64_t out_stride, int64_t first,
            int64_t last) {
  const Output output{bias, out, out_stride, m.rows};
  const bool is_block_codec = with_block_codec(m.codec, [&](auto q) {
    using Q = decltype(q);
    if (x.quantized) all_tiles<Q>(m, x.quantized, x.n_tokens, output, first, last);
    else all_tiles<Q>(m, x.blocks, x.n_tokens, output, first, last);
  });
  if (is_block_codec) return;
  if (m.codec == Codec::f32) plain<Float32>(m, x, output, first, last);
  else if (m.codec == Codec::f16) plain<Float16>(m, x, output, first, last);
  else plain<BFloat16>(m, x, output, first, last);
}

void quantize(const float* x, int64_t columns, QuantBlock* out, int64_t stride) {
  constexpr int vectors = kBlock / F::lanes, per_half = vectors / 2;
  for (int64_t at = 0; at < columns; at += kBlock, out += stride) {
    F v[vectors], largest = F::zero(), bad = F::zero();
    for (int i = 0; i < vectors; ++i) {
      v[i] = F::load(x + at + i * F::lanes);
      largest = max(largest, abs(v[i]));
      bad = bad + (v[i] - v[i]);  // 0, or NaN if an element is not finite: then so is the scale
    }
    const float amax = max(largest), factor = amax > 0 ? 127.0f / amax : 0.0f;
    out->scale = amax / 127.0f + sum(bad);
    int32_t halves[2] = {};
    for (int i = 0; i < vectors; ++i) {
      const I q = to_int(v[i] * F::set(factor));
      q.store_i8(out->q + i * F::lanes);
      halves[i / per_half] += sum(q);
    }
    const int32_t sums[3] = {-halves[0], -halves[1], -halves[0] - halves[1]};
    for (int i = 0; i < 3; ++i) {
      out->neg_sum[i] = sums[i];
      out->neg_scaled_sum[i] = out->scale * float(sums[i]);
    }
  }
}

void arrange(const float* x, int64_t columns, FloatBlock* out, int64_t stride) {
  constexpr int vectors = kBlock / F::lanes, per_half = vectors / 2;
  for (int64_t at = 0; at < columns; at += kBlock, out += stride) {
    F halves[2] = {F::zero(), F::zero()};
    for (int i = 0; i < vectors; ++i) {
      const F v = F::load(x + at + i * F::lanes);
      v.store(out->x + i * F::lanes);
      halves[i / per_half] = halves[i / per_half] - v;
    }
    out->neg_sum[0] = sum(halves[0]);
    out->neg_sum[1] = sum(halves[1]);
    out->neg_sum[2] = out->neg_sum[0] + out->neg_sum[1];
  }
}

}  // namespace apr::APR_ISA
