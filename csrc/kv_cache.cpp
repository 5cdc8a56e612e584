#include "kv_cache.h"

#include <stdexcept>
#include <string>

namespace apr {
namespace {

constexpr int kMost = 1 << 16;  // of each size: the bytes of their product stay below 2^63

}  // namespace

KVCache::KVCache(int num_hidden_layers, int num_key_value_heads, int head_dim, bool is_float16)
    : num_hidden_layers_(num_hidden_layers),
      num_key_value_heads_(num_key_value_heads),
      head_dim_(head_dim),
      is_float16_(is_float16) {
  const auto fits = [](int n) { return n >= 1 && n <= kMost; };
  if (!fits(num_hidden_layers) || !fits(num_key_value_heads) || !fits(head_dim))
    throw std::invalid_argument("a cache of " + std::to_string(num_hidden_layers) + " layers, " +
                                std::to_string(num_key_value_heads) + " key-value heads of " +
                                std::to_string(head_dim) + ": each must be 1 to " + std::to_string(kMost));
  pages_.resize(2 * size_t(num_hidden_layers));
}

int64_t KVCache::page_bytes() const {
  const int64_t bytes = int64_t(num_key_value_heads_) * head_dim_ * kPage * (is_float16_ ? 2 : 4);
  return (bytes + 63) / 64 * 64;
}

void KVCache::reserve(int64_t length) {
  while (int64_t(memory_.size()) * kPage < length) {
    if (memory_.size() == memory_.capacity()) {  // room first, so that nothing below the allocation can fail half-way
      const size_t room = 2 * memory_.size() + 8;
      for (auto& pages : pages_) pages.reserve(room);
      memory_.reserve(room);
    }
    memory_.push_back(allocate(size_t(slab_bytes())));
    uint8_t* page = memory_.back().get();
    for (auto& pages : pages_) {
      pages.push_back(page);
      page += page_bytes();
    }
  }
}

void KVCache::truncate(int64_t length) {
  if (length < 0 || length > length_)
    throw std::invalid_argument("truncate to " + std::to_string(length) + " positions, the cache holds " +
                                std::to_string(length_));
  length_ = length;
}

}  // namespace apr
