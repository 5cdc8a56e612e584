// Recording: every step is checked when it is added.
#include "plan.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace apr {
namespace {

constexpr int64_t kMostColumns = int64_t(1) << 28;
constexpr int64_t kFloatsPerLine = 16;  // rows of a buffer begin on a cache line

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

std::string text(int64_t n) { return std::to_string(n); }

const char* name(Op op) {
  switch (op) {
    case Op::embedding: return "embedding";
    case Op::scale: return "scale";
    case Op::add: return "add";
    case Op::multiply: return "multiply";
    case Op::silu: return "silu";
    case Op::gelu_tanh: return "gelu_tanh";
    case Op::silu_multiply: return "silu_multiply";
    case Op::gelu_tanh_multiply: return "gelu_tanh_multiply";
    case Op::softcap: return "softcap";
    case Op::rmsnorm: return "rmsnorm";
    case Op::linear: return "linear";
    case Op::rope: return "rope";
    case Op::attention: return "attention";
    case Op::last_rows: return "last_rows";
  }
  return "";
}

}  // namespace

int Plan::buffer(int64_t width) {
  if (width < 1 || width > kMostColumns) fail("a buffer of " + text(width) + " columns, expected 1 or more");
  Storage storage;
  storage.width = width;
  storage.stride = (width + kFloatsPerLine - 1) / kFloatsPerLine * kFloatsPerLine;
  storages_.push_back(storage);
  views_.push_back({int(storages_.size()) - 1, 0, width});
  return int(views_.size()) - 1;
}

int Plan::columns(int buffer, int64_t start, int64_t stop) {
  const View whole = view(buffer, "columns");
  if (start < 0 || stop <= start || stop > whole.width)
    fail("columns " + text(start) + " to " + text(stop) + " of a buffer of " + text(whole.width));
  views_.push_back({whole.storage, whole.start + start, stop - start});
  return int(views_.size()) - 1;
}

int Plan::embedding(std::shared_ptr<const Table> table, int out) {
  if (!table) fail("embedding: no table");
  if (view(out, "embedding").width != table->columns())
    fail("embedding: the table has " + text(table->columns()) + " columns, out has " + text(views_[size_t(out)].width));
  if (mode_ != Rows::tokens) fail("embedding: after last_rows, a row is a sequence's, not a token's");
  Step step{Op::embedding, mode_};
  step.out = out;
  step.index = int(tables_.size());
  const int number = add_step(step, {out});
  tables_.push_back(std::move(table));
  return number;
}

int Plan::unary(Op op, int x, float value, int out) {
  check_width(name(op), x, out);
  check_output(name(op), out, {x}, {});
  if (op == Op::softcap && !(value > 0 && std::isfinite(value))) fail("softcap: cap must be positive");
  Step step{op, mode_};
  step.x = input(x, name(op));
  step.out = out;
  step.number = value;
  return add_step(step, {out});
}

int Plan::binary(Op op, int x, int y, int out) {
  check_width(name(op), x, out);
  check_width(name(op), y, out);
  check_output(name(op), out, {x, y}, {});
  Step step{op, mode_};
  step.x = input(x, name(op));
  step.y = input(y, name(op));
  step.out = out;
  return add_step(step, {out});
}

int Plan::rmsnorm(int x, std::vector<float> weight, float eps, int out) {
  check_width("rmsnorm", x, out);
  check_output("rmsnorm", out, {x}, {});
  const int64_t columns = views_[size_t(x)].width;
  if (weight.empty() || columns % int64_t(weight.size()) != 0)
    fail("rmsnorm: x has " + text(columns) + " columns, not a multiple of the weight's " +
         text(int64_t(weight.size())));
  if (!(eps >= 0 && std::isfinite(eps))) fail("rmsnorm: eps must be finite and not negative");
  Step step{Op::rmsnorm, mode_};
  step.x = input(x, "rmsnorm");
  step.out = out;
  step.number = eps;
  step.index = int(norms_.size());
  const int number = add_step(step, {out});
  norms_.push_back(std::move(weight));
  return number;
}

int Plan::linear(int x, std::vector<LinearProduct> products) {
  const int64_t columns = view(x, "linear").width;
  if (products.empty()) fail("linear: no products");
  bool has_block_codec = false;
  for (size_t i = 0; i < products.size(); ++i) {
    const LinearProduct& p = products[i];
    if (!p.weight) fail("linear: no weight");
    const Matrix& m = p.weight->matrix();
    if (m.columns != columns) fail("linear: x has " + text(columns) + " columns, the weight " + text(m.columns));
    if (view(p.out, "linear").width != m.rows)
      fail("linear: the weight has " + text(m.rows) + " rows, out has " + text(views_[size_t(p.out)].width) +
           " columns");
    if (!p.bias.empty() && int64_t(p.bias.size()) != m.rows)
      fail("linear: the weight has " + text(m.rows) + " rows, the bias " + text(int64_t(p.bias.size())) + " elements");
    check_output("linear", p.out, {}, {x});
    for (size_t j = 0; j < i; ++j) check_output("linear", p.out, {}, {products[j].out});
    has_block_codec |= is_block_codec(m.codec);
  }
  Step step{Op::linear, mode_};
  step.x = input(x, "linear");
  step.index = int(linears_.size());
  const int number = add_step(step, {});
  for (const LinearProduct& p : products) note_output(p.out, step.rows);
  linears_.push_back({std::move(products), has_block_codec});
  return number;
}

int Plan::rope(int x, int table, int head_dim, int out) {
  check_width("rope", x, out);
  check_output("rope", out, {x}, {});
  const int64_t columns = views_[size_t(x)].width;
  if (table < 0 || table >= 1 << 16) fail("rope: no table can have the number " + text(table));
  if (head_dim < 1 || columns % head_dim != 0)
    fail("rope: x has " + text(columns) + " columns, not a multiple of head_dim " + text(head_dim));
  if (mode_ != Rows::tokens) fail("rope: after last_rows, a row is a sequence's, not a token's");
  Step step{Op::rope, mode_};
  step.x = input(x, "rope");
  step.out = out;
  step.index = table;
  step.head_dim = head_dim;
  n_angles_ = std::max(n_angles_, table + 1);
  rotations_.push_back(int(steps_.size()));
  return add_step(step, {out});
}

int Plan::attention(int q, int k, int v, int out, const Heads& heads) {
  check_width("attention", q, out);
  check_width("attention", k, v);
  check_output("attention", out, {q}, {k, v});
  const int64_t of_queries = views_[size_t(q)].width, of_keys = views_[size_t(k)].width;
  if (heads.head_dim < 1 || of_queries % heads.head_dim != 0 || of_keys % heads.head_dim != 0 ||
      of_queries % of_keys != 0)
    fail("attention: q has " + text(of_queries) + " columns, k " + text(of_keys) + ", head_dim is " +
         text(heads.head_dim) + ": expected whole heads, as many for each key-value head");
  if (heads.layer < 0) fail("attention: layer " + text(heads.layer));
  if (!std::isfinite(heads.scale)) fail("attention: scale must be finite");
  if (heads.window < 0) fail("attention: window " + text(heads.window) + ", expected 0 for none or more");
  if (!(heads.softcap >= 0 && std::isfinite(heads.softcap))) fail("attention: softcap must be 0 for none, or positive");
  if (mode_ != Rows::tokens) fail("attention: after last_rows, a row is a sequence's, not a token's");
  const AttentionStep added{heads, k, v, int(of_queries / heads.head_dim), int(of_keys / heads.head_dim)};
  for (const AttentionStep& other : attentions_) {
    if (other.heads.layer == heads.layer) fail("attention: layer " + text(heads.layer) + " has its step already");
    if (other.heads.head_dim != heads.head_dim || other.num_key_value_heads != added.num_key_value_heads)
      fail("attention: layers " + text(other.heads.layer) + " and " + text(heads.layer) +
           " differ in their key-value heads, which one cache cannot hold");
  }
  Step step{Op::attention, mode_};
  step.x = input(q, "attention");
  input(k, "attention");
  input(v, "attention");
  step.out = out;
  step.index = int(attentions_.size());
  attentions_.push_back(added);
  return add_step(step, {out});
}

int Plan::last_rows(int x, int out) {
  check_width("last_rows", x, out);
  check_output("last_rows", out, {}, {x});
  if (mode_ != Rows::tokens) fail("last_rows: a plan has one such step");
  if (views_[size_t(x)].storage == views_[size_t(out)].storage)
    fail("last_rows: x and out are parts of one buffer, whose rows are all of one kind");
  Step step{Op::last_rows, Rows::sequences};
  step.x = input(x, "last_rows");
  step.out = out;
  mode_ = Rows::sequences;
  return add_step(step, {out});
}

const Plan::View& Plan::view(int id, const char* what) const {
  if (id < 0 || size_t(id) >= views_.size())
    fail(std::string(what) + ": no buffer " + text(id) + ", there are " + text(int64_t(views_.size())));
  return views_[size_t(id)];
}

// Notes that the next step reads a buffer, and returns it.
int Plan::input(int id, const char* what) {
  Storage& storage = storages_[size_t(view(id, what).storage)];
  if (storage.recorded == Rows::unknown) note_output(id, mode_);  // its rows come from write()
  if (storage.recorded != mode_)
    fail(std::string(what) + ": buffer " + text(id) + " holds a row a " +
         (mode_ == Rows::sequences ? "token, after last_rows a step reads a row a sequence"
                                   : "sequence, before last_rows a step reads a row a token"));
  return id;
}

void Plan::note_output(int id, Rows rows) {
  Storage& storage = storages_[size_t(views_[size_t(id)].storage)];
  storage.recorded = rows;
  if (storage.first == Rows::unknown) storage.first = rows;
  storage.has_tokens |= rows == Rows::tokens;
}

int Plan::add_step(Step step, std::initializer_list<int> outputs) {
  for (const int out : outputs) note_output(out, step.rows);
  steps_.push_back(step);
  state_ = State::unbound;
  return int(steps_.size()) - 1;
}

// out may be one of `same`, exactly, but overlap neither a part of them nor any of `apart`.
void Plan::check_output(const char* op, int out, std::initializer_list<int> same,
                        std::initializer_list<int> apart) const {
  for (const int id : same)
    if (overlaps(id, out) && !is_same(id, out))
      fail(std::string(op) + ": out overlaps a part of buffer " + text(id) + ", which it reads");
  for (const int id : apart)
    if (overlaps(id, out)) fail(std::string(op) + ": out overlaps buffer " + text(id));
}

void Plan::check_width(const char* op, int x, int out) const {
  const int64_t found = view(x, op).width, expected = view(out, op).width;
  if (found != expected)
    fail(std::string(op) + ": buffer " + text(x) + " has " + text(found) + " columns, buffer " + text(out) + " has " +
         text(expected));
}

bool Plan::overlaps(int a, int b) const {
  const View& x = view(a, "overlap");
  const View& y = view(b, "overlap");
  return x.storage == y.storage && x.start < y.start + y.width && y.start < x.start + x.width;
}

bool Plan::is_same(int a, int b) const {
  const View& x = views_[size_t(a)];
  const View& y = views_[size_t(b)];
  return x.storage == y.storage && x.start == y.start && x.width == y.width;
}

}  // namespace apr
