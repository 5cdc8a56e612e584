// Running: each step over all rows, by the caller alone where the work is small, else shared among threads.
//
// No result depends on how the work is cut, so the cuts follow sizes and threads freely.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu.h"
#include "plan.h"
#include "plan_busy.h"

namespace apr {
namespace {

constexpr int64_t kSerialElements = 16384;  // fewer are done by the caller: sharing costs about a microsecond
constexpr int64_t kPieceElements = 4096;    // of a chunk
constexpr int64_t kSerialProducts = 16384;  // of queries with keys; attention does as many again with values
constexpr int64_t kKeysRoom = 1024;         // scratch grows in steps of so many keys, not with every token

// Calls f(row) for all rows, each of `cost` elements.
template <class Function> void for_rows(Pool& pool, int64_t n_rows, int64_t cost, Function f) {
  if (n_rows * cost < kSerialElements) {
    for (int64_t row = 0; row < n_rows; ++row) f(row);
    return;
  }
  const int64_t rows = std::max<int64_t>(1, kPieceElements / cost);
  pool.parallel((n_rows + rows - 1) / rows, [&](int64_t chunk, int) {
    for (int64_t row = chunk * rows; row < std::min((chunk + 1) * rows, n_rows); ++row) f(row);
  });
}

// Calls f(row, first, n) for columns [first, first + n) of all rows: a long row is cut too.
template <class Function> void for_elements(Pool& pool, int64_t n_rows, int64_t columns, Function f) {
  if (columns <= kPieceElements || n_rows * columns < kSerialElements) {
    for_rows(pool, n_rows, columns, [&](int64_t row) { f(row, 0, columns); });
    return;
  }
  const int64_t pieces = (columns + kPieceElements - 1) / kPieceElements;
  pool.parallel(n_rows * pieces, [&](int64_t chunk, int) {
    const int64_t first = chunk % pieces * kPieceElements;
    f(chunk / pieces, first, std::min(kPieceElements, columns - first));
  });
}

}  // namespace

float* Plan::at(int view_id, int64_t row) const {
  const View& view = views_[size_t(view_id)];
  const Storage& storage = storages_[size_t(view.storage)];
  return reinterpret_cast<float*>(storage.memory.get()) + row * storage.stride + view.start;
}

void Plan::run(Pool& pool, int first, int last) {
  const Busy busy(is_busy_);
  if (state_ != State::bound) throw std::runtime_error("run: nothing is bound, or it is counted already");
  if (first < 0 || last < first || size_t(last) > steps_.size())
    throw std::invalid_argument("run: steps " + std::to_string(first) + " to " + std::to_string(last) + ", there are " +
                                std::to_string(steps_.size()));
  const Kernels& k = kernels();
  for (int i = first; i < last; ++i) run_step(steps_[size_t(i)], pool, k);
}

void Plan::run_step(const Step& step, Pool& pool, const Kernels& k) {
  switch (step.op) {
    case Op::embedding: {
      const Table& table = *tables_[size_t(step.index)];
      for_rows(pool, n_tokens_, table.columns(),
               [&](int64_t row) { table.decode(token_ids_[size_t(row)], at(step.out, row)); });
      break;
    }
    case Op::rmsnorm: run_rmsnorm(step, pool, k); break;
    case Op::linear: run_linear(step, pool, k); break;
    case Op::rope: run_rope(step, pool, k); break;
    case Op::attention: run_attention(step, pool, k); break;
    case Op::last_rows: {
      const size_t bytes = size_t(views_[size_t(step.x)].width) * sizeof(float);
      for (size_t i = 0; i < sequences_.size(); ++i) {
        const int64_t last = sequences_[i].first_token + sequences_[i].n_tokens - 1;
        std::memcpy(at(step.out, int64_t(i)), at(step.x, last), bytes);
      }
      break;
    }
    default: run_elementwise(step, pool, k);
  }
  if (step.out >= 0) storages_[size_t(views_[size_t(step.out)].storage)].now = step.rows;
}

void Plan::run_elementwise(const Step& step, Pool& pool, const Kernels& k) const {
  const int64_t n_rows = count(step.rows), columns = views_[size_t(step.out)].width;
  const auto unary = [&](auto f) {
    for_elements(pool, n_rows, columns,
                 [&](int64_t row, int64_t i, int64_t n) { f(at(step.x, row) + i, n, at(step.out, row) + i); });
  };
  const auto binary = [&](auto f) {
    for_elements(pool, n_rows, columns, [&](int64_t row, int64_t i, int64_t n) {
      f(at(step.x, row) + i, at(step.y, row) + i, n, at(step.out, row) + i);
    });
  };
  switch (step.op) {
    case Op::scale: return unary([&](const float* x, int64_t n, float* out) { k.scale(x, step.number, n, out); });
    case Op::softcap: return unary([&](const float* x, int64_t n, float* out) { k.softcap(x, step.number, n, out); });
    case Op::silu: return unary(k.silu);
    case Op::gelu_tanh: return unary(k.gelu_tanh);
    case Op::add: return binary(k.add);
    case Op::multiply: return binary(k.multiply);
    case Op::silu_multiply: return binary(k.silu_multiply);
    case Op::gelu_tanh_multiply: return binary(k.gelu_tanh_multiply);
    default: return;
  }
}

void Plan::run_rmsnorm(const Step& step, Pool& pool, const Kernels& k) const {
  const std::vector<float>& weight = norms_[size_t(step.index)];
  const int64_t columns = views_[size_t(step.x)].width, size = int64_t(weight.size());
  for_rows(pool, count(step.rows), columns, [&](int64_t row) {
    const float* x = at(step.x, row);
    float* out = at(step.out, row);
    for (int64_t i = 0; i < columns; i += size) k.rmsnorm(x + i, weight.data(), step.number, size, out + i);
  });
}

void Plan::run_linear(const Step& step, Pool& pool, const Kernels& k) {
  const LinearStep& linear = linears_[size_t(step.index)];
  const Input input = prepared_.prepare(pool, k, activations_, at(step.x), stride(step.x), count(step.rows),
                                        views_[size_t(step.x)].width, linear.has_block_codec);
  products_.clear();
  for (const LinearProduct& p : linear.products) {
    products_.push_back({p.weight.get(), p.bias.empty() ? nullptr : p.bias.data(), at(p.out), stride(p.out)});
    storages_[size_t(views_[size_t(p.out)].storage)].now = step.rows;
  }
  multiply(pool, k, input, products_.data(), int(products_.size()));
}

void Plan::run_rope(const Step& step, Pool& pool, const Kernels& k) const {
  const BoundAngles& angles = angles_[size_t(step.index)];
  const int64_t columns = views_[size_t(step.x)].width, half = angles.rotary_dim / 2;
  for_rows(pool, n_tokens_, columns, [&](int64_t row) {
    const float* cos = angles.data.data() + row * angles.rotary_dim;
    k.rope(at(step.x, row), cos, cos + half, half, columns / step.head_dim, step.head_dim, at(step.out, row));
  });
}

void Plan::run_attention(const Step& step, Pool& pool, const Kernels& k) {
  const AttentionStep& a = attentions_[size_t(step.index)];
  attending_.clear();
  for (const Sequence& s : sequences_)
    attending_.push_back({s.cache->keys(a.heads.layer), s.cache->values(a.heads.layer), a.num_heads,
                          a.num_key_value_heads, a.heads.head_dim, a.heads.scale, a.heads.window, a.heads.softcap});

  const auto append = [&](int64_t i, int) {
    const Part& part = appended_[size_t(i)];
    const Sequence& s = sequences_[size_t(part.sequence)];
    for (int64_t t = part.first; t < part.first + part.n_tokens; ++t)
      k.append(attending_[size_t(part.sequence)], at(a.k, s.first_token + t), at(a.v, s.first_token + t),
               s.position + t);
  };
  const int64_t n_appended = int64_t(appended_.size());
  if (n_tokens_ * 2 * views_[size_t(a.k)].width >= kSerialElements) {
    pool.parallel(n_appended, append);
  } else {
    for (int64_t i = 0; i < n_appended; ++i) append(i, 0);
  }

  const int64_t n_keys = (n_keys_ + kKeysRoom - 1) / kKeysRoom * kKeysRoom;
  const int64_t scratch = (k.attention_scratch(attending_[0], n_keys) + 15) / 16 * 16;  // whole cache lines a thread
  const int64_t scratch_bytes = scratch * pool.threads() * int64_t(sizeof(float));
  if (scratch_bytes > scratch_bytes_) {
    scratch_ = allocate(size_t(scratch_bytes));
    scratch_bytes_ = scratch_bytes;
  }
  const auto query = [&](int64_t chunk, int thread) {
    const Part& part = queried_[size_t(chunk / a.num_key_value_heads)];
    const Sequence& s = sequences_[size_t(part.sequence)];
    const int64_t row = s.first_token + part.first;
    k.attention(attending_[size_t(part.sequence)], at(step.x, row), stride(step.x), part.n_tokens,
                s.position + part.first, int(chunk % a.num_key_value_heads), at(step.out, row), stride(step.out),
                reinterpret_cast<float*>(scratch_.get()) + thread * scratch);
  };
  const int64_t n_chunks = int64_t(queried_.size()) * a.num_key_value_heads;
  if (n_scores_ * a.num_heads * a.heads.head_dim >= kSerialProducts) {
    pool.parallel(n_chunks, query);
  } else {
    for (int64_t chunk = 0; chunk < n_chunks; ++chunk) query(chunk, 0);
  }
}

}  // namespace apr
