#include "bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>

#include "memory.h"

namespace apr {
namespace {

constexpr int64_t kWord = sizeof(uint64_t);
constexpr int64_t kChunkBytes = 1 << 20;
constexpr int64_t kPrefetchBytes = 2048;
constexpr int kSums = 8;  // a cache line of words, which the compiler adds up as vectors

inline void prefetch(const void* p) {
#if defined(__GNUC__)
  __builtin_prefetch(p);
#else
  (void)p;
#endif
}

uint64_t sum(const uint64_t* words, int64_t n) {
  uint64_t sums[kSums] = {};
  for (int64_t i = 0; i < n; i += kSums) {
    prefetch(reinterpret_cast<const uint8_t*>(words + i) + kPrefetchBytes);
    for (int j = 0; j < kSums; ++j) sums[j] += words[i + j];
  }
  uint64_t total = 0;
  for (const uint64_t s : sums) total += s;
  return total;
}

}  // namespace

std::vector<double> read_bandwidth(Pool& pool, int64_t n_bytes, int repeats) {
  if (n_bytes < 1 || repeats < 1) throw std::invalid_argument("n_bytes and repeats must be at least 1");
  const int64_t n_chunks = (n_bytes - 1) / kChunkBytes + 1;
  const Memory memory = allocate(size_t(n_chunks) * size_t(kChunkBytes));
  auto* words = reinterpret_cast<uint64_t*>(memory.get());
  constexpr int64_t in_chunk = kChunkBytes / kWord;
  pool.parallel(n_chunks, [&](int64_t chunk, int) {
    std::fill_n(words + chunk * in_chunk, in_chunk, uint64_t(chunk));
  });

  std::vector<double> figures;
  for (int i = 0; i < repeats; ++i) {
    std::atomic<uint64_t> total{0};
    const auto begin = std::chrono::steady_clock::now();
    pool.parallel(n_chunks, [&](int64_t chunk, int) { total += sum(words + chunk * in_chunk, in_chunk); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const uint64_t expected = uint64_t(n_chunks) * uint64_t(n_chunks - 1) / 2 * uint64_t(in_chunk);
    if (total != expected) throw std::runtime_error("memory does not hold what was written to it");
    figures.push_back(double(n_chunks * kChunkBytes) / seconds.count() * 1e-9);
  }
  return figures;
}

}  // namespace apr
