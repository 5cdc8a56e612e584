#include "products.h"

#include <algorithm>

namespace apr {
namespace {

constexpr int64_t kSerialElements = 16384;      // fewer are prepared by the caller alone
constexpr int64_t kChunksPerThread = 6;         // a thread that comes late finds work left
constexpr int64_t kMostChunkBytes = 256 << 10;  // a thread that is put aside holds up the others for no more than this
constexpr int64_t kFewTokens = kMaxTile;        // up to here reading the weights is what takes the time
constexpr int64_t kRowBlocksOfMany = 4;         // that share a tile of tokens in cache, beyond
constexpr int64_t kChunksPerThreadOfMany = 2;   // but not so many that threads have nothing to do

// Row blocks in a chunk, for products of `total` row blocks and `bytes`.
int64_t chunk_size(int64_t total, int64_t bytes, int64_t n_tokens, int64_t threads) {
  if (threads == 1) return total;
  if (n_tokens > kFewTokens)
    return std::clamp<int64_t>(total / (kChunksPerThreadOfMany * threads), 1, kRowBlocksOfMany);
  const int64_t most = std::max<int64_t>(1, kMostChunkBytes * total / bytes);
  return std::clamp<int64_t>(total / (kChunksPerThread * threads), 1, most);
}

}  // namespace

Input Prepared::prepare(Pool& pool, const Kernels& kernels, Activations activations, const float* x, int64_t stride,
                        int64_t n_tokens, int64_t columns, bool has_block_codec) {
  Input input{n_tokens, columns, nullptr, nullptr, x, stride};
  if (!has_block_codec) return input;
  const int64_t n_blocks = columns / kBlock;
  const bool is_int8 = activations == Activations::int8;
  const int64_t n_bytes = n_tokens * n_blocks * int64_t(is_int8 ? sizeof(QuantBlock) : sizeof(FloatBlock));
  if (n_bytes > n_bytes_) {
    memory_ = allocate(size_t(n_bytes));
    n_bytes_ = n_bytes;
  }
  auto* quantized = reinterpret_cast<QuantBlock*>(memory_.get());
  auto* blocks = reinterpret_cast<FloatBlock*>(memory_.get());
  // full tiles in parallel; the narrower ones of the rest are the last chunk's
  const auto prepare_tokens = [&](int64_t chunk, int) {
    const int64_t first = chunk * kMaxTile, last = std::min(first + kMaxTile, n_tokens);
    for (int64_t t = first; t < last;) {
      const int width = tile_width(last - t);
      for (int i = 0; i < width; ++i) {
        const float* row = x + (t + i) * stride;
        if (is_int8) kernels.quantize(row, columns, quantized + t * n_blocks + i, width);
        else kernels.arrange(row, columns, blocks + t * n_blocks + i, width);
      }
      t += width;
    }
  };
  const int64_t n_chunks = (n_tokens + kMaxTile - 1) / kMaxTile;
  if (n_tokens * columns >= kSerialElements) {
    pool.parallel(n_chunks, prepare_tokens);
  } else {
    for (int64_t chunk = 0; chunk < n_chunks; ++chunk) prepare_tokens(chunk, 0);
  }
  if (is_int8) input.quantized = quantized;
  else input.blocks = blocks;
  return input;
}

void multiply(Pool& pool, const Kernels& kernels, const Input& x, const Product* products, int n_products) {
  int64_t total = 0, bytes = 0;
  for (int i = 0; i < n_products; ++i) {
    total += products[i].weight->n_row_blocks();
    bytes += products[i].weight->n_row_blocks() * products[i].weight->row_block_bytes();
  }
  const int64_t size = chunk_size(total, bytes, x.n_tokens, pool.threads());
  // a chunk is a run of row blocks of all products one after the other, and may span several
  pool.parallel((total + size - 1) / size, [&](int64_t chunk, int) {
    int64_t first = chunk * size, last = std::min(first + size, total);
    for (const Product* p = products; first < last; ++p) {
      const int64_t n = p->weight->n_row_blocks();
      if (first < n)
        kernels.linear(p->weight->matrix(), x, p->bias, p->out, p->out_stride, first, std::min(last, n));
      first = std::max<int64_t>(first - n, 0);
      last -= n;
    }
  });
}

}  // namespace apr
