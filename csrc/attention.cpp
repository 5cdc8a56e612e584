// Causal attention over paged keys and values.
//
// Every row (one head of one query) is computed by the same sequence of roundings whatever is computed beside it:
// a score is a sum over head_dim in order, a lane a position; the sum of exponentials runs in 16 lanes by position
// modulo 16; the values are summed in order of position. Positions that a row does not see take no part, not even
// times zero, so neither what a page holds beyond the last position nor a NaN in the future can reach it.
//
// Error of an output, beside that of storing keys and values in float16, for values of magnitude 1: below
// (n_keys / 2 + head_dim * scale * |q| |k| + 20) * 2^-24; measured 1e-6 for 512 keys.
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "ops.h"
#include "simd/simd.h"
#include "simd/tanh.h"

#define APR_UNROLL _Pragma("GCC unroll 16")

namespace apr::APR_ISA {
namespace {

constexpr int kTile = 16;  // positions side by side in a page of keys
constexpr int kVectors = kTile / F::lanes;
constexpr int kTilesPerPage = kPage / kTile;
constexpr int kAhead = 8;  // positions by which values are fetched before they are used
// Accumulators that stay in registers beside what they are fed with. Portable vectors take two registers each.
#if defined(APR_PORTABLE)
constexpr int kAccumulators = 4;
#else
constexpr int kAccumulators = F::lanes == 8 ? 8 : 16;
#endif
constexpr int power_of_two(int limit) { return limit >= 8 ? 8 : limit >= 4 ? 4 : limit >= 2 ? 2 : 1; }
constexpr int kMaxRows = power_of_two(kAccumulators / kVectors);  // that share one pass over keys and values
constexpr int score_tiles(int rows) { return power_of_two(kAccumulators / kVectors / rows); }
constexpr int value_vectors(int rows) { return power_of_two(kAccumulators / rows); }

struct Row {
  int64_t begin, end;  // the positions it sees
  const float* q;
  float* out;
};

// The rows of one pass, and where their scores are: scores[tile - first_tile][row][kTile].
struct Pass {
  int64_t first_tile, last_tile;  // those that some row sees a position of
  int64_t common_begin, common_end;
  bool is_first;  // nothing has read these values before: fetch rows in whole, where they are used a part at a time
  float* q;       // [head_dim][rows]
  float* scores;
};

F load_kv(const float* p) { return F::load(p); }
F load_kv(const uint16_t* p) { return F::load_f16(p); }
F load_kv_n(const float* p, int n) { return F::load_n(p, n); }
F load_kv_n(const uint16_t* p, int n) {
  uint16_t lanes[F::lanes] = {};
  std::memcpy(lanes, p, n * sizeof(uint16_t));
  return F::load_f16(lanes);
}

// Scores of `tiles` tiles that lie one after the other in a page.
template <int rows, int tiles, class T>
void score(const Attention& a, const T* keys, const float* q, float* out) {
  F sums[tiles][kVectors][rows];
  APR_UNROLL for (int t = 0; t < tiles; ++t)
    APR_UNROLL for (int v = 0; v < kVectors; ++v)
      APR_UNROLL for (int r = 0; r < rows; ++r) sums[t][v][r] = F::zero();
  const int64_t stride = int64_t(a.head_dim) * kTile;
  for (int d = 0; d < a.head_dim; ++d, keys += kTile, q += rows) {
    F k[tiles][kVectors];
    APR_UNROLL for (int t = 0; t < tiles; ++t)
      APR_UNROLL for (int v = 0; v < kVectors; ++v) k[t][v] = load_kv(keys + t * stride + v * F::lanes);
    APR_UNROLL for (int r = 0; r < rows; ++r) {
      const F x = F::set(q[r]);
      APR_UNROLL for (int t = 0; t < tiles; ++t)
        APR_UNROLL for (int v = 0; v < kVectors; ++v) sums[t][v][r] = fma(x, k[t][v], sums[t][v][r]);
    }
  }
  const F scale = F::set(a.scale);
  APR_UNROLL for (int t = 0; t < tiles; ++t)
    APR_UNROLL for (int v = 0; v < kVectors; ++v)
      APR_UNROLL for (int r = 0; r < rows; ++r)
        (sums[t][v][r] * scale).store(out + (t * rows + r) * kTile + v * F::lanes);
}

template <int rows, class T>
void score_all(const Attention& a, int kv_head, const Pass& pass) {
  constexpr int tiles = score_tiles(rows);
  float* out = pass.scores;
  for (int64_t tile = pass.first_tile; tile < pass.last_tile;) {
    const int in_page = int(tile % kTilesPerPage);
    const T* keys = static_cast<const T*>(a.keys.pages[tile / kTilesPerPage]) +
                    (int64_t(kv_head) * kTilesPerPage + in_page) * kTile * a.head_dim;
    const bool is_group = in_page + tiles <= kTilesPerPage && tile + tiles <= pass.last_tile;
    if (is_group) score<rows, tiles>(a, keys, pass.q, out);
    else score<rows, 1>(a, keys, pass.q, out);
    tile += is_group ? tiles : 1;
    out += (is_group ? tiles : 1) * rows * kTile;
  }
}

void fill(float* lanes, int begin, int end, float value) {
  for (int i = begin; i < end; ++i) lanes[i] = value;
}

// Scores of one row become e^(score - max); returns their sum. `scores` is the row's first tile, the next one is
// `stride` floats on.
float exponentials(const Attention& a, const Row& row, float* scores, int64_t stride) {
  const int64_t n = (row.end - 1) / kTile - row.begin / kTile + 1;
  const int first_lane = int(row.begin % kTile), last_lane = int((row.end - 1) % kTile) + 1;
  float* last = scores + (n - 1) * stride;
  if (a.softcap != 0) {
    const F cap = F::set(a.softcap);
    for (int64_t t = 0; t < n; ++t)
      for (int v = 0; v < kTile; v += F::lanes) {
        float* s = scores + t * stride + v;
        (cap * tanh(F::load(s) / cap)).store(s);
      }
  }
  fill(scores, 0, first_lane, -INFINITY);
  fill(last, last_lane, kTile, -INFINITY);
  F most[kVectors];
  for (int v = 0; v < kVectors; ++v) most[v] = F::set(-INFINITY);
  for (int64_t t = 0; t < n; ++t)
    for (int v = 0; v < kVectors; ++v) most[v] = max(most[v], F::load(scores + t * stride + v * F::lanes));
  for (int v = 1; v < kVectors; ++v) most[0] = max(most[0], most[v]);
  const F m = F::set(max(most[0]));
  for (int64_t t = 0; t < n; ++t)
    for (int v = 0; v < kTile; v += F::lanes) {
      float* s = scores + t * stride + v;
      exp(F::load(s) - m).store(s);
    }
  fill(scores, 0, first_lane, 0);
  fill(last, last_lane, kTile, 0);
  F sums[kVectors];
  for (int v = 0; v < kVectors; ++v) sums[v] = F::zero();
  for (int64_t t = 0; t < n; ++t)
    for (int v = 0; v < kVectors; ++v) sums[v] = sums[v] + F::load(scores + t * stride + v * F::lanes);
  float total = 0;
  for (int v = 0; v < kVectors; ++v) total += sum(sums[v]);
  return total;
}

// Dimensions [d, d + n_dims) of the rows' outputs, n_dims = vectors * F::lanes, or less if vectors is 1.
template <int rows, int vectors, class T>
void weigh(const Attention& a, int kv_head, const Pass& pass, const Row* row, const F* factor, int d, int n_dims) {
  F sums[rows][vectors];
  APR_UNROLL for (int r = 0; r < rows; ++r)
    APR_UNROLL for (int v = 0; v < vectors; ++v) sums[r][v] = F::zero();
  const bool is_full = n_dims == vectors * F::lanes;
  const float* p = pass.scores;
  for (int64_t tile = pass.first_tile; tile < pass.last_tile; ++tile, p += rows * kTile) {
    const int64_t position = tile * kTile;
    const T* values = static_cast<const T*>(a.values.pages[position / kPage]) +
                      (int64_t(kv_head) * kPage + position % kPage) * a.head_dim + d;
    const auto add = [&](int lane, auto is_seen) {
      F value[vectors];
      const T* at = values + int64_t(lane) * a.head_dim;
      if (pass.is_first && d == 0)
        for (int i = 0; i < a.head_dim; i += 64 / int(sizeof(T))) prefetch(at + kAhead * int64_t(a.head_dim) + i);
      if (vectors > 1 || is_full) {
        APR_UNROLL for (int v = 0; v < vectors; ++v) value[v] = load_kv(at + v * F::lanes);
      } else {
        value[0] = load_kv_n(at, n_dims);
      }
      APR_UNROLL for (int r = 0; r < rows; ++r) {
        if (!is_seen(r)) continue;
        const F x = F::set(p[r * kTile + lane]);
        APR_UNROLL for (int v = 0; v < vectors; ++v) sums[r][v] = fma(x, value[v], sums[r][v]);
      }
    };
    const int64_t from = pass.common_begin - position, to = pass.common_end - position;
    const int begin = from < 0 ? 0 : from > kTile ? kTile : int(from);
    const int end = to > kTile ? kTile : to < begin ? begin : int(to);
    for (int lane = 0; lane < kTile; ++lane) {  // those that all rows see without asking
      for (; lane < end && lane >= begin; ++lane) add(lane, [](int) { return true; });
      if (lane == kTile) break;
      add(lane, [&](int r) { return position + lane >= row[r].begin && position + lane < row[r].end; });
    }
  }
  APR_UNROLL for (int r = 0; r < rows; ++r)
    APR_UNROLL for (int v = 0; v < vectors; ++v)
      store(sums[r][v] * factor[r], row[r].out + d + v * F::lanes, is_full ? F::lanes : n_dims);
}

// Dimensions from d on, by as many vectors as fit.
template <int rows, int vectors, class T>
void weigh_from(const Attention& a, int kv_head, const Pass& pass, const Row* row, const F* factor, int d) {
  constexpr int step = vectors * F::lanes;
  for (; d + step <= a.head_dim; d += step) weigh<rows, vectors, T>(a, kv_head, pass, row, factor, d, step);
  if constexpr (vectors > 1) weigh_from<rows, vectors / 2, T>(a, kv_head, pass, row, factor, d);
  else if (d < a.head_dim) weigh<rows, 1, T>(a, kv_head, pass, row, factor, d, a.head_dim - d);
}

template <int rows, class KT, class VT>
void attend(const Attention& a, int kv_head, Pass& pass, const Row* row) {
  pass.common_begin = row[0].begin, pass.common_end = row[0].end;
  int64_t begin = row[0].begin, end = row[0].end;
  for (int r = 1; r < rows; ++r) {
    begin = row[r].begin < begin ? row[r].begin : begin;
    end = row[r].end > end ? row[r].end : end;
    pass.common_begin = row[r].begin > pass.common_begin ? row[r].begin : pass.common_begin;
    pass.common_end = row[r].end < pass.common_end ? row[r].end : pass.common_end;
  }
  pass.first_tile = begin / kTile, pass.last_tile = (end - 1) / kTile + 1;
  for (int d = 0; d < a.head_dim; ++d)
    for (int r = 0; r < rows; ++r) pass.q[d * rows + r] = row[r].q[d];

  score_all<rows, KT>(a, kv_head, pass);
  F factor[rows];
  for (int r = 0; r < rows; ++r) {
    float* scores = pass.scores + ((row[r].begin / kTile - pass.first_tile) * rows + r) * kTile;
    factor[r] = F::set(1.0f / exponentials(a, row[r], scores, rows * kTile));
  }
  weigh_from<rows, value_vectors(rows), VT>(a, kv_head, pass, row, factor, 0);
}

template <int rows>
void attend(const Attention& a, int kv_head, Pass& pass, const Row* row) {
  if (a.keys.is_float16) attend<rows, uint16_t, uint16_t>(a, kv_head, pass, row);
  else attend<rows, float, float>(a, kv_head, pass, row);
}

void attend(const Attention& a, int kv_head, Pass& pass, const Row* row, int rows) {
  switch (rows) {
    case 1: return attend<1>(a, kv_head, pass, row);
    case 2: return attend<2>(a, kv_head, pass, row);
  }
  if constexpr (kMaxRows >= 4) {
    switch (rows) {
      case 3: return attend<3>(a, kv_head, pass, row);
      case 4: return attend<4>(a, kv_head, pass, row);
    }
  }
  if constexpr (kMaxRows == 8) {
    switch (rows) {
      case 5: return attend<5>(a, kv_head, pass, row);
      case 6: return attend<6>(a, kv_head, pass, row);
      case 7: return attend<7>(a, kv_head, pass, row);
      case 8: return attend<8>(a, kv_head, pass, row);
    }
  }
}

// One head's vector into every stride-th element from `out` on.
void scatter(const float* x, int n, bool is_float16, void* out, int64_t start, int64_t stride) {
  if (!is_float16) {
    for (int i = 0; i < n; ++i) static_cast<float*>(out)[start + i * stride] = x[i];
    return;
  }
  uint16_t* halves = static_cast<uint16_t*>(out) + start;
  for_lanes(n, [=](int64_t i, int lanes) {
    uint16_t converted[F::lanes];
    load(x + i, lanes).store_f16(converted);
    for (int j = 0; j < lanes; ++j) halves[(i + j) * stride] = converted[j];
  });
}

}  // namespace

void append(const Attention& a, const float* k, const float* v, int64_t position) {
  const int64_t page = position / kPage, slot = position % kPage;
  for (int64_t head = 0; head < a.num_key_value_heads; ++head, k += a.head_dim, v += a.head_dim) {
    const int64_t tile = (head * kTilesPerPage + slot / kTile) * a.head_dim * kTile;
    scatter(k, a.head_dim, a.keys.is_float16, a.keys.pages[page], tile + slot % kTile, kTile);
    scatter(v, a.head_dim, a.values.is_float16, a.values.pages[page], (head * kPage + slot) * a.head_dim, 1);
  }
}

int64_t attention_scratch(const Attention& a, int64_t n_keys) {
  // a block of queries, scores from the tile of the first to that of the last position, and room to align both
  return kMaxRows * (a.head_dim + n_keys + 2 * kTile) + 2 * kTile;
}

void attention(const Attention& a, const float* q, int64_t q_stride, int64_t n_queries, int64_t position, int kv_head,
               float* out, int64_t out_stride, float* scratch) {
  const int group = a.num_heads / a.num_key_value_heads;
  const int64_t n_rows = n_queries * group;
  const auto align = [](float* p) {  // a vector that crosses cache lines costs two loads
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + 63) & ~uintptr_t(63));
  };
  Pass pass;
  pass.q = align(scratch);
  pass.scores = align(pass.q + kMaxRows * a.head_dim);
  for (int64_t i = 0; i < n_rows; i += kMaxRows) {
    const int rows = n_rows - i < kMaxRows ? int(n_rows - i) : kMaxRows;
    Row row[kMaxRows];
    for (int r = 0; r < rows; ++r) {
      const int64_t query = (i + r) / group, head = kv_head * group + (i + r) % group;
      const int64_t end = position + query + 1;
      row[r].begin = a.window > 0 && end > a.window ? end - a.window : 0;
      row[r].end = end;
      row[r].q = q + query * q_stride + head * a.head_dim;
      row[r].out = out + query * out_stride + head * a.head_dim;
    }
    pass.is_first = i == 0;
    attend(a, kv_head, pass, row, rows);
  }
}

}  // namespace apr::APR_ISA
