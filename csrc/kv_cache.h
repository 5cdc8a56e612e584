// The keys and values of one sequence, in pages of kPage positions (kernels.h says how a page lies).
//
// A page of every layer is made at once, when its first position is needed, and kept until the cache goes: forgetting
// positions only moves the length back. What lies beyond the length is zeros or old numbers, never uninitialised.
#pragma once

#include <vector>

#include "kernels.h"
#include "memory.h"

namespace apr {

class KVCache {
 public:
  // Raises std::invalid_argument for sizes that are not positive, or absurd.
  KVCache(int num_hidden_layers, int num_key_value_heads, int head_dim, bool is_float16);

  int num_hidden_layers() const { return num_hidden_layers_; }
  int num_key_value_heads() const { return num_key_value_heads_; }
  int head_dim() const { return head_dim_; }
  int64_t length() const { return length_; }
  int64_t n_bytes() const { return int64_t(memory_.size()) * slab_bytes(); }

  // Makes room for positions below `length`; they are not counted yet. Raises std::bad_alloc.
  void reserve(int64_t length);
  // Counts positions that have been written.
  void advance(int64_t n_positions) { length_ += n_positions; }
  // Forgets all positions from `length` on. Raises std::invalid_argument if it does not hold as many.
  void truncate(int64_t length);

  // Valid until the next reserve().
  Pages keys(int layer) const { return {pages_[2 * layer].data(), is_float16_}; }
  Pages values(int layer) const { return {pages_[2 * layer + 1].data(), is_float16_}; }

 private:
  int64_t page_bytes() const;
  int64_t slab_bytes() const { return page_bytes() * 2 * num_hidden_layers_; }

  int num_hidden_layers_, num_key_value_heads_, head_dim_;
  bool is_float16_;
  int64_t length_ = 0;
  std::vector<Memory> memory_;              // a slab for every kPage positions: the pages of all layers
  std::vector<std::vector<void*>> pages_;   // [2 * layer + (0 keys, 1 values)][page]
};

}  // namespace apr
