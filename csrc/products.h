// Products of the same activations with one or more weights: prepared once, shared among threads in one go.
#pragma once

#include <vector>

#include "kernels.h"
#include "memory.h"
#include "pool.h"
#include "weight.h"

namespace apr {

struct Product {
  const Weight* weight;
  const float* bias;  // or null
  float* out;         // [n_tokens][out_stride]
  int64_t out_stride;
};

enum class Activations { int8, float32 };

// Activations as the products with block codecs read them; its memory is kept for the next op.
class Prepared {
 public:
  // x: [n_tokens][stride]. Prepares only what the products need: weights of plain floats read x itself.
  Input prepare(Pool& pool, const Kernels& kernels, Activations activations, const float* x, int64_t stride,
                int64_t n_tokens, int64_t columns, bool has_block_codec);

 private:
  Memory memory_;
  int64_t n_bytes_ = 0;
};

// out = x weightᵀ + bias for all products. Every weight has x.columns columns, every out its own memory.
void multiply(Pool& pool, const Kernels& kernels, const Input& x, const Product* products, int n_products);

}  // namespace apr
