// What a run is about: tokens, caches, tables of angles; and what buffers hold.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu.h"
#include "plan.h"
#include "plan_busy.h"

namespace apr {
namespace {

constexpr int64_t kPositionsPerPart = 64;  // that are appended by one thread: whole groups of 16 lie side by side
constexpr int64_t kQueriesPerPart = 16;

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

std::string text(int64_t n) { return std::to_string(n); }

}  // namespace

void Plan::bind(const int64_t* token_ids, int64_t n_tokens, const std::vector<std::shared_ptr<KVCache>>& caches,
                const std::vector<int64_t>& lengths, const std::vector<Angles>& tables) {
  const Busy busy(is_busy_);
  if (caches.size() != lengths.size())
    fail(text(int64_t(caches.size())) + " caches for " + text(int64_t(lengths.size())) + " lengths");
  check_tokens(token_ids, n_tokens, lengths);
  check_caches(caches);
  check_tables(tables, n_tokens);

  state_ = State::unbound;
  n_tokens_ = n_tokens;
  token_ids_.assign(token_ids, token_ids + n_tokens);
  sequences_.clear();
  for (size_t i = 0, first = 0; i < caches.size(); first += size_t(lengths[i++])) {
    caches[i]->reserve(caches[i]->length() + lengths[i]);
    sequences_.push_back({caches[i], caches[i]->length(), int64_t(first), lengths[i]});
  }
  angles_.resize(tables.size());
  for (size_t i = 0; i < tables.size(); ++i) {
    angles_[i].data.assign(tables[i].data, tables[i].data + n_tokens * tables[i].rotary_dim);
    angles_[i].rotary_dim = tables[i].rotary_dim;
  }
  cut_sequences();
  make_room();
  state_ = State::bound;
}

void Plan::check_tokens(const int64_t* token_ids, int64_t n_tokens, const std::vector<int64_t>& lengths) const {
  int64_t rest = n_tokens;
  for (const int64_t length : lengths) {
    if (length < 1 || length > rest) break;
    rest -= length;
  }
  if (lengths.empty() || rest != 0 || *std::min_element(lengths.begin(), lengths.end()) < 1)
    fail("lengths must each be at least 1, and their sum the number of tokens, " + text(n_tokens));
  for (const auto& table : tables_)
    for (int64_t i = 0; i < n_tokens; ++i)
      if (token_ids[i] < 0 || token_ids[i] >= table->rows())
        fail("token_ids[" + text(i) + "] is " + text(token_ids[i]) + ", the embedding table has " +
             text(table->rows()) + " rows");
}

void Plan::check_caches(const std::vector<std::shared_ptr<KVCache>>& caches) const {
  for (size_t i = 0; i < caches.size(); ++i) {
    if (!caches[i]) fail("caches[" + text(int64_t(i)) + "] is None");
    for (size_t j = 0; j < i; ++j)
      if (caches[i] == caches[j]) fail("caches " + text(int64_t(j)) + " and " + text(int64_t(i)) + " are the same");
    for (const AttentionStep& a : attentions_) {
      const KVCache& cache = *caches[i];
      if (a.heads.layer >= cache.num_hidden_layers() || a.num_key_value_heads != cache.num_key_value_heads() ||
          a.heads.head_dim != cache.head_dim())
        fail("caches[" + text(int64_t(i)) + "] has " + text(cache.num_hidden_layers()) + " layers, " +
             text(cache.num_key_value_heads()) + " key-value heads of " + text(cache.head_dim()) +
             "; the attention of layer " + text(a.heads.layer) + " has " + text(a.num_key_value_heads) + " of " +
             text(a.heads.head_dim));
    }
  }
}

void Plan::check_tables(const std::vector<Angles>& tables, int64_t n_tokens) const {
  if (int64_t(tables.size()) != n_angles_)
    fail(text(int64_t(tables.size())) + " tables, the plan's rope steps read " + text(n_angles_));
  for (size_t i = 0; i < tables.size(); ++i)
    if (tables[i].n_tokens != n_tokens || tables[i].rotary_dim < 2 || tables[i].rotary_dim % 2 != 0)
      fail("tables[" + text(int64_t(i)) + "] is [" + text(tables[i].n_tokens) + ", " + text(tables[i].rotary_dim) +
           "], expected [" + text(n_tokens) + ", rotary_dim], rotary_dim even");
  for (const int number : rotations_) {
    const Step& step = steps_[size_t(number)];
    if (tables[size_t(step.index)].rotary_dim > step.head_dim)
      fail("tables[" + text(step.index) + "] has a rotary_dim of " + text(tables[size_t(step.index)].rotary_dim) +
           ", the heads it is for have " + text(step.head_dim));
  }
}

// The parts that attention works on. Late queries see most positions: they come first, so that no thread is left with
// the longest part at the end.
void Plan::cut_sequences() {
  appended_.clear();
  queried_.clear();
  n_keys_ = n_scores_ = 0;
  for (size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& s = sequences_[i];
    for (int64_t first = 0; first < s.n_tokens;) {
      const int64_t to_boundary = kPositionsPerPart - (s.position + first) % kPositionsPerPart;
      const int64_t n = std::min(to_boundary, s.n_tokens - first);
      appended_.push_back({int(i), first, n});
      first += n;
    }
    for (int64_t first = (s.n_tokens - 1) / kQueriesPerPart * kQueriesPerPart; first >= 0; first -= kQueriesPerPart)
      queried_.push_back({int(i), first, std::min(kQueriesPerPart, s.n_tokens - first)});
    n_keys_ = std::max(n_keys_, s.position + s.n_tokens);
    n_scores_ += s.n_tokens * s.position + s.n_tokens * (s.n_tokens + 1) / 2;
  }
}

// Memory of buffers only grows. One that never holds rows of tokens, as logits, has room for a row a sequence.
void Plan::make_room() {
  for (Storage& storage : storages_) {
    const bool has_tokens = storage.has_tokens || storage.first == Rows::unknown;
    const int64_t n_rows = count(has_tokens ? Rows::tokens : Rows::sequences);
    const int64_t n_bytes = n_rows * storage.stride * int64_t(sizeof(float));
    if (n_bytes > storage.n_bytes) {
      storage.memory.reset();
      storage.n_bytes = 0;
      storage.memory = allocate(size_t(n_bytes));
      storage.n_bytes = n_bytes;
    }
    storage.now = storage.first == Rows::unknown ? Rows::tokens : storage.first;
  }
}

void Plan::advance() {
  const Busy busy(is_busy_);
  if (state_ != State::bound) throw std::runtime_error("advance: nothing is bound, or it is counted already");
  for (const Sequence& s : sequences_)
    if (s.cache->length() != s.position)
      throw std::runtime_error("advance: a cache holds " + text(s.cache->length()) + " positions, it held " +
                               text(s.position) + " when it was bound");
  for (Sequence& s : sequences_) {
    s.cache->advance(s.n_tokens);
    s.cache.reset();
  }
  state_ = State::advanced;
}

const Plan::Storage& Plan::held(int buffer) const {
  const Storage& storage = storages_[size_t(view(buffer, "rows").storage)];
  if (state_ == State::unbound || !storage.memory) throw std::runtime_error("nothing is bound, buffers hold no rows");
  return storage;
}

int64_t Plan::width(int buffer) const { return view(buffer, "width").width; }

int64_t Plan::n_rows(int buffer) const { return count(held(buffer).now); }

void Plan::read(int buffer, float* out) const {
  const Busy busy(is_busy_);
  const int64_t n = n_rows(buffer), columns = width(buffer);
  for (int64_t row = 0; row < n; ++row)
    std::memcpy(out + row * columns, at(buffer, row), size_t(columns) * sizeof(float));
}

void Plan::write(int buffer, const float* values) {
  const Busy busy(is_busy_);
  const int64_t n = n_rows(buffer), columns = width(buffer);
  for (int64_t row = 0; row < n; ++row)
    std::memcpy(at(buffer, row), values + row * columns, size_t(columns) * sizeof(float));
}

void Plan::statistics(Pool& pool, int buffer, double* out) const {
  const Busy busy(is_busy_);
  const Kernels& k = kernels();
  const int64_t columns = width(buffer);
  pool.parallel(n_rows(buffer), [&](int64_t row, int) {
    k.statistics(at(buffer, row), columns, out + row * kStatistics);
  });
}

}  // namespace apr
