#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#if defined(_WIN32)
#include <malloc.h>
#else
#include <sys/mman.h>
#endif

namespace apr {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kChunk = size_t(32) << 20;  // that weights share; larger ones have their own
constexpr size_t kAlignment = 64;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

Memory allocate_small(size_t n_bytes) {
#if defined(_WIN32)
  void* p = _aligned_malloc(n_bytes, kAlignment);
  const auto release = [](uint8_t* q) { _aligned_free(q); };
#else
  void* p = std::aligned_alloc(kAlignment, n_bytes);
  const auto release = [](uint8_t* q) { std::free(q); };
#endif
  if (!p) throw std::bad_alloc();
  std::memset(p, 0, n_bytes);
  return Memory(static_cast<uint8_t*>(p), release);
}

#if !defined(_WIN32)
// A mapping that begins on a huge page: one page more is mapped, and what lies outside is given back.
Memory allocate_mapped(size_t n_bytes) {
  const size_t with_slack = n_bytes + kHugePage;
  void* p = mmap(nullptr, with_slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  const auto start = reinterpret_cast<uintptr_t>(p);
  const uintptr_t first = round_up(start, kHugePage);
  const uintptr_t end = start + with_slack, last = first + n_bytes;
  if (first > start) munmap(p, first - start);
  if (end > last) munmap(reinterpret_cast<void*>(last), end - last);
  auto* memory = reinterpret_cast<uint8_t*>(first);
#if defined(MADV_HUGEPAGE)
  madvise(memory, n_bytes, MADV_HUGEPAGE);  // a wish: small pages work too
#endif
  return Memory(memory, [n_bytes](uint8_t* q) { munmap(q, n_bytes); });
}
#endif

}  // namespace

Memory allocate(size_t n_bytes) {
  if (n_bytes > SIZE_MAX / 2) throw std::bad_alloc();
#if !defined(_WIN32)
  // 64 KiB: the largest page of memory that a supported system maps in
  if (n_bytes >= kHugePage) return allocate_mapped(round_up(n_bytes, size_t(64) << 10));
#endif
  return allocate_small(round_up(n_bytes ? n_bytes : 1, kAlignment));
}

Memory allocate_beside(size_t n_bytes) {
  if (n_bytes > kChunk / 2) return allocate(n_bytes);
  static std::mutex mutex;
  static std::weak_ptr<uint8_t> shared;  // gone when no weight is left in it
  static size_t used = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  n_bytes = round_up(n_bytes ? n_bytes : 1, kAlignment);
  Memory chunk = shared.lock();
  if (!chunk || used + n_bytes > kChunk) {
    chunk = allocate(kChunk);
    shared = chunk;
    used = 0;
  }
  uint8_t* memory = chunk.get() + used;
  used += n_bytes;
  return Memory(std::move(chunk), memory);
}

}  // namespace apr
