// A recorded forward pass: steps over buffers, run for any tokens (the meaning of each step is in _native.pyi).
//
// plan.cpp records and checks, plan_bind.cpp says what a run is about, plan_run.cpp runs. Everything that a caller can
// get wrong raises std::invalid_argument while it is recorded or bound, so that running has nothing left to check.
#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kernels.h"
#include "kv_cache.h"
#include "memory.h"
#include "pool.h"
#include "products.h"
#include "weight.h"

namespace apr {

enum class Op { embedding, scale, add, multiply, silu, gelu_tanh, silu_multiply, gelu_tanh_multiply, softcap, rmsnorm,
                linear, rope, attention, last_rows };

// What a row of a buffer is: a new token's, or a sequence's.
enum class Rows { unknown, tokens, sequences };

class Plan {
 public:
  struct LinearProduct {
    std::shared_ptr<const Weight> weight;
    std::vector<float> bias;  // or empty
    int out;
  };
  struct Heads {
    int layer, head_dim;
    float scale;
    int64_t window;
    float softcap;
  };
  // Float32 [n_tokens, rotary_dim]: cosines, then sines. Copied by bind().
  struct Angles {
    const float* data;
    int64_t n_tokens, rotary_dim;
  };

  explicit Plan(Activations activations) : activations_(activations) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  int buffer(int64_t width);
  int columns(int buffer, int64_t start, int64_t stop);

  // Each adds a step and returns its number.
  int embedding(std::shared_ptr<const Table> table, int out);
  int unary(Op op, int x, float number, int out);  // scale, silu, gelu_tanh, softcap
  int binary(Op op, int x, int y, int out);        // add, multiply, silu_multiply, gelu_tanh_multiply
  int rmsnorm(int x, std::vector<float> weight, float eps, int out);
  int linear(int x, std::vector<LinearProduct> products);
  int rope(int x, int table, int head_dim, int out);
  int attention(int q, int k, int v, int out, const Heads& heads);
  int last_rows(int x, int out);

  void bind(const int64_t* token_ids, int64_t n_tokens, const std::vector<std::shared_ptr<KVCache>>& caches,
            const std::vector<int64_t>& lengths, const std::vector<Angles>& tables);
  void run(Pool& pool, int first, int last);  // until advance()
  void advance();

  int64_t width(int buffer) const;
  int64_t n_rows(int buffer) const;
  void read(int buffer, float* out) const;          // [n_rows][width]
  void write(int buffer, const float* values);      // [n_rows][width]
  void statistics(Pool& pool, int buffer, double* out) const;  // [n_rows][kStatistics]

 private:
  // Rows lie `stride` floats apart. Later steps may use a buffer for rows of the other kind.
  struct Storage {
    int64_t width, stride;
    Rows recorded = Rows::unknown;  // after the steps so far
    Rows first = Rows::unknown;     // of the step that is the first to use it
    Rows now = Rows::unknown;       // after the steps that have been run
    bool has_tokens = false;        // whether it ever holds rows of tokens
    Memory memory;
    int64_t n_bytes = 0;
  };
  struct View {
    int storage;
    int64_t start, width;
  };
  struct Step {
    Op op;
    Rows rows;
    int x = -1, y = -1, out = -1;  // views
    float number = 0;              // factor, cap, eps
    int index = -1;                // into tables_, norms_, linears_, attentions_; the number of a rope table
    int head_dim = 0;
  };
  struct LinearStep {
    std::vector<LinearProduct> products;
    bool has_block_codec;
  };
  struct AttentionStep {
    Heads heads;
    int k, v, num_heads, num_key_value_heads;
  };
  struct Sequence {
    std::shared_ptr<KVCache> cache;  // null once advanced
    int64_t position, first_token, n_tokens;
  };
  // Tokens of one sequence that one thread works on.
  struct Part {
    int sequence;
    int64_t first, n_tokens;  // counted from the sequence's first new token
  };

  // plan.cpp
  const View& view(int id, const char* what) const;
  int input(int id, const char* what);
  void check_output(const char* op, int out, std::initializer_list<int> same, std::initializer_list<int> apart) const;
  void check_width(const char* op, int x, int out) const;
  int add_step(Step step, std::initializer_list<int> outputs);
  void note_output(int id, Rows rows);
  bool overlaps(int a, int b) const;
  bool is_same(int a, int b) const;

  // plan_bind.cpp
  class Busy;
  void check_caches(const std::vector<std::shared_ptr<KVCache>>& caches) const;
  void check_tokens(const int64_t* token_ids, int64_t n_tokens, const std::vector<int64_t>& lengths) const;
  void check_tables(const std::vector<Angles>& tables, int64_t n_tokens) const;
  void cut_sequences();
  void make_room();
  int64_t count(Rows rows) const { return rows == Rows::sequences ? int64_t(sequences_.size()) : n_tokens_; }
  const Storage& held(int buffer) const;

  // plan_run.cpp
  float* at(int view_id, int64_t row = 0) const;
  int64_t stride(int view_id) const { return storages_[size_t(views_[size_t(view_id)].storage)].stride; }
  void run_step(const Step& step, Pool& pool, const Kernels& kernels);
  void run_elementwise(const Step& step, Pool& pool, const Kernels& kernels) const;
  void run_rmsnorm(const Step& step, Pool& pool, const Kernels& kernels) const;
  void run_linear(const Step& step, Pool& pool, const Kernels& kernels);
  void run_rope(const Step& step, Pool& pool, const Kernels& kernels) const;
  void run_attention(const Step& step, Pool& pool, const Kernels& kernels);

  const Activations activations_;
  std::vector<Storage> storages_;
  std::vector<View> views_;
  std::vector<Step> steps_;
  std::vector<std::shared_ptr<const Table>> tables_;
  std::vector<std::vector<float>> norms_;
  std::vector<LinearStep> linears_;
  std::vector<AttentionStep> attentions_;
  Rows mode_ = Rows::tokens;  // of the next step
  int n_angles_ = 0;          // tables that bind() has to bring
  std::vector<int> rotations_;  // steps that read them

  // what was bound
  int64_t n_tokens_ = 0;
  std::vector<int64_t> token_ids_;
  std::vector<Sequence> sequences_;
  struct BoundAngles {
    std::vector<float> data;
    int64_t rotary_dim;
  };
  std::vector<BoundAngles> angles_;
  std::vector<Part> appended_, queried_;
  int64_t n_keys_ = 0;    // of the longest sequence
  int64_t n_scores_ = 0;  // that one head computes, without a window
  enum class State { unbound, bound, advanced } state_ = State::unbound;
  mutable std::atomic<bool> is_busy_{false};

  // memory that steps use in passing
  Prepared prepared_;
  std::vector<Product> products_;
  std::vector<Attention> attending_;
  Memory scratch_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace apr
