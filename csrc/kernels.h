// The ops that are compiled once per instruction set, as one table of functions. Rows of activations are float32.
//
// Weights of the block codecs lie in row blocks: 16 rows side by side, so that one 64-byte vector holds four
// consecutive weights of each row. A lane of 32 bits is a row; no sum runs across lanes, and the scales of 16 rows
// load at once. Each codec's file in quants/ says how its unit lies in a row block.
#pragma once

#include <cstdint>

namespace apr {

constexpr int kRowsPerBlock = 16;
constexpr int kBlock = 32;      // activations are quantised in blocks of 32, each with its own scale
constexpr int kMaxTile = 16;    // tokens whose activations lie side by side
constexpr int kPage = 128;      // positions in one page of the key-value cache
constexpr int kStatistics = 8;  // count, mean, std, min, max, rms, nan, inf

enum class Codec : int { q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, f16, bf16, f32 };

// 32 activations of one token as 8-bit integers: x = scale * q. The sums are those of q over elements 0..15, 16..31
// and all 32, negated, and the same times the scale: what offsets and minima of a codec are multiplied with.
struct alignas(64) QuantBlock {
  int8_t q[kBlock];
  float scale;
  int32_t neg_sum[3];
  float neg_scaled_sum[3];
  float unused;
};

// 32 activations of one token as they are, with the same three sums, negated.
struct alignas(16) FloatBlock {
  float x[kBlock];
  float neg_sum[3];
  float unused;
};

// Activations of `n_tokens` tokens lie in tiles of 16, then 8, 4, 2, 1 tokens; a tile of `width` that begins at token t
// is at blocks + t * n_blocks, and holds for each block of 32 the blocks of its tokens side by side: [n_blocks][width].
// Static: sources of different instruction sets must not share one compiled copy.
static inline int tile_width(int64_t remaining) {
  return remaining >= 16 ? 16 : remaining >= 8 ? 8 : remaining >= 4 ? 4 : remaining >= 2 ? 2 : 1;
}

// A weight [rows, columns]. Block codecs: in row blocks, each `row_block_bytes` long, the last padded with zero rows.
// f16, bf16, f32: row-major, as the file has them.
struct Matrix {
  Codec codec;
  int64_t rows, columns;
  const uint8_t* data;
  int64_t row_block_bytes;
};

// What a linear op reads: one of the three, by codec and mode.
struct Input {
  int64_t n_tokens, columns;
  const QuantBlock* quantized;  // tiles; null in exact mode
  const FloatBlock* blocks;     // tiles; null in 8-bit mode
  const float* rows;            // [n_tokens][row_stride], for f16, bf16 and f32 weights
  int64_t row_stride;
};

// One layer's keys or values of one sequence, in pages of kPage positions, float16 or float32.
// keys:   page[kv_head][kPage / 16][head_dim][16]: 16 positions side by side, a score vector needs no sum across lanes
// values: page[kv_head][kPage][head_dim]
struct Pages {
  void* const* pages;
  bool is_float16;
};

struct Attention {
  Pages keys, values;
  int num_heads, num_key_value_heads, head_dim;
  float scale;
  int64_t window;  // a query sees its own position and the window - 1 before it; 0 means all
  float softcap;   // scores become softcap * tanh(score / softcap); 0 means none
};

struct Kernels {
  const char* name;

  // linear.cpp
  void (*quantize)(const float* x, int64_t columns, QuantBlock* out, int64_t stride);   // one token; out[b * stride]
  void (*arrange)(const float* x, int64_t columns, FloatBlock* out, int64_t stride);    // the same, unquantised
  // out[t][row] = weight[row] . x[t] + bias[row], for the row blocks [first, last); rows outside are not touched
  void (*linear)(const Matrix& w, const Input& x, const float* bias, float* out, int64_t out_stride, int64_t first,
                 int64_t last);
  // pack.cpp: rows[i] points at the i-th row's bytes in the file, or is null for a row of zeros
  void (*pack)(Codec codec, const uint8_t* const rows[kRowsPerBlock], int64_t columns, uint8_t* out);
  void (*decode_row)(Codec codec, const uint8_t* row, int64_t columns, float* out);

  // encode.cpp: the blocks [first, last) of rows of `columns` floats into a block codec's bytes, `out` being where
  // block 0 goes. importance: of each column, or null; mean_squares: of each row, where the importance of codecs with
  // blocks of 32 asks for it, or null. False if the codec cannot hold a value: it is no number, or too large for a
  // scale.
  bool (*encode)(Codec codec, const float* x, const float* importance, const float* mean_squares, int64_t columns,
                 int64_t first, int64_t last, uint8_t* out);
  void (*mean_squares)(const float* x, int64_t n_rows, int64_t columns, float* out);  // columns: a multiple of 32

  // one row each
  void (*rmsnorm)(const float* x, const float* weight, float eps, int64_t size, float* out);
  void (*rope)(const float* x, const float* cos, const float* sin, int64_t half, int64_t num_heads, int64_t head_dim,
               float* out);
  void (*add)(const float* x, const float* y, int64_t n, float* out);
  void (*multiply)(const float* x, const float* y, int64_t n, float* out);
  void (*scale)(const float* x, float factor, int64_t n, float* out);
  void (*silu)(const float* x, int64_t n, float* out);
  void (*gelu_tanh)(const float* x, int64_t n, float* out);
  void (*silu_multiply)(const float* gate, const float* up, int64_t n, float* out);  // same bits as silu, then multiply
  void (*gelu_tanh_multiply)(const float* gate, const float* up, int64_t n, float* out);
  void (*softcap)(const float* x, float cap, int64_t n, float* out);
  void (*statistics)(const float* x, int64_t n, double out[kStatistics]);

  // attention.cpp. append: one token's k and v, [kv_heads * head_dim] each, into the page slot of `position`.
  void (*append)(const Attention& a, const float* k, const float* v, int64_t position);
  // The heads that share one key-value head, for n_queries consecutive positions from `position` on:
  // q[i] and out[i] are rows of all heads, strides in floats. scratch: attention_scratch() floats.
  void (*attention)(const Attention& a, const float* q, int64_t q_stride, int64_t n_queries, int64_t position,
                    int kv_head, float* out, int64_t out_stride, float* scratch);
  int64_t (*attention_scratch)(const Attention& a, int64_t n_keys);

  // softmax.cpp: over one row of logits
  float (*max)(const float* x, int64_t n);
  double (*sum_exp)(const float* x, float max, int64_t n);  // sum of exp(x - max)
};

// The tables that this CPU can run, best first; null-terminated.
const Kernels* const* available_kernels();

}  // namespace apr
