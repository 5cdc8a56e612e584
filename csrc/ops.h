// The ops of one instruction set; `Kernels` in kernels.h says what each one does.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace apr::APR_ISA {

// linear.cpp
void quantize(const float* x, int64_t columns, QuantBlock* out, int64_t stride);
void arrange(const float* x, int64_t columns, FloatBlock* out, int64_t stride);
void linear(const Matrix& w, const Input& x, const float* bias, float* out, int64_t out_stride, int64_t first,
            int64_t last);

// pack.cpp
void pack(Codec codec, const uint8_t* const rows[kRowsPerBlock], int64_t columns, uint8_t* out);
void decode_row(Codec codec, const uint8_t* row, int64_t columns, float* out);

// encode.cpp
bool encode(Codec codec, const float* x, const float* importance, const float* mean_squares, int64_t columns,
            int64_t first, int64_t last, uint8_t* out);
void mean_squares(const float* x, int64_t n_rows, int64_t columns, float* out);

// one op a file, arithmetic.cpp has three; out may be an input of the same length
void rmsnorm(const float* x, const float* weight, float eps, int64_t size, float* out);
void rope(const float* x, const float* cos, const float* sin, int64_t half, int64_t num_heads, int64_t head_dim,
          float* out);
void add(const float* x, const float* y, int64_t n, float* out);
void multiply(const float* x, const float* y, int64_t n, float* out);
void scale(const float* x, float factor, int64_t n, float* out);
void silu(const float* x, int64_t n, float* out);
void gelu_tanh(const float* x, int64_t n, float* out);
void silu_multiply(const float* gate, const float* up, int64_t n, float* out);
void gelu_tanh_multiply(const float* gate, const float* up, int64_t n, float* out);
void softcap(const float* x, float cap, int64_t n, float* out);
void statistics(const float* x, int64_t n, double out[kStatistics]);

// attention.cpp
void append(const Attention& a, const float* k, const float* v, int64_t position);
void attention(const Attention& a, const float* q, int64_t q_stride, int64_t n_queries, int64_t position, int kv_head,
               float* out, int64_t out_stride, float* scratch);
int64_t attention_scratch(const Attention& a, int64_t n_keys);

// softmax.cpp
float max(const float* x, int64_t n);
double sum_exp(const float* x, float max, int64_t n);

extern const Kernels table;

}  // namespace apr::APR_ISA
