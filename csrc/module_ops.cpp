// Ops one by one, for tests and benchmarks, and sampling.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "arrays.h"
#include "cpu.h"
#include "kv_cache.h"
#include "memory.h"
#include "module.h"
#include "pool.h"
#include "products.h"
#include "sampling.h"
#include "weight.h"

namespace apr {
namespace {

// The last axis of an array of any shape, and how many rows of it there are.
struct RowsOf {
  int64_t n_rows, columns;
};

RowsOf rows_of(const AnyArray& x) {
  if (x.ndim() == 0) throw std::invalid_argument("x is a number, expected an array");
  const auto columns = int64_t(x.shape(x.ndim() - 1));
  return {columns ? int64_t(x.size()) / columns : 0, columns};
}

NewArray<float> linear(Pool& pool, const AnyArray& x, const Weight& weight, const std::optional<AnyArray>& bias,
                       const std::string& activations) {
  const Matrix& m = weight.matrix();
  const float* rows = elements<float>(x, "x", {-1, m.columns});
  const float* offsets = bias ? elements<float>(*bias, "bias", {m.rows}) : nullptr;
  const Activations mode = activations_of(activations);
  const auto n_tokens = int64_t(x.shape(0));
  auto out = new_array<float>({x.shape(0), size_t(m.rows)});
  const Product product{&weight, offsets, out.data(), m.rows};
  const nb::gil_scoped_release release;
  if (n_tokens == 0) return out;
  Prepared prepared;
  const Kernels& k = kernels();
  const Input input =
      prepared.prepare(pool, k, mode, rows, m.columns, n_tokens, m.columns, is_block_codec(m.codec));
  multiply(pool, k, input, &product, 1);
  return out;
}

NewArray<float> rmsnorm(const AnyArray& x, const AnyArray& weight, float eps) {
  const auto [n_rows, columns] = rows_of(x);
  const float* rows = elements<float>(x, "x");
  const float* factors = elements<float>(weight, "weight", {columns});
  auto out = new_array<float>(shape_of(x));
  float* data = out.data();
  const nb::gil_scoped_release release;
  for (int64_t row = 0; row < n_rows; ++row)
    kernels().rmsnorm(rows + row * columns, factors, eps, columns, data + row * columns);
  return out;
}

NewArray<float> rope(const AnyArray& x, const AnyArray& cos, const AnyArray& sin) {
  const float* rows = elements<float>(x, "x", {-1, -1, -1});
  const auto n_tokens = int64_t(x.shape(0)), num_heads = int64_t(x.shape(1)), head_dim = int64_t(x.shape(2));
  const float* cosines = elements<float>(cos, "cos", {n_tokens, -1});
  const auto half = int64_t(cos.shape(1));
  const float* sines = elements<float>(sin, "sin", {n_tokens, half});
  if (2 * half > head_dim)
    throw std::invalid_argument("cos has " + std::to_string(half) + " columns, more than half of head_dim " +
                                std::to_string(head_dim));
  auto out = new_array<float>(shape_of(x));
  float* data = out.data();
  const nb::gil_scoped_release release;
  for (int64_t t = 0; t < n_tokens; ++t) {
    const int64_t at = t * num_heads * head_dim;
    kernels().rope(rows + at, cosines + t * half, sines + t * half, half, num_heads, head_dim, data + at);
  }
  return out;
}

template <class Function> NewArray<float> unary(const AnyArray& x, Function f) {
  const float* data = elements<float>(x, "x");
  auto out = new_array<float>(shape_of(x));
  float* results = out.data();
  const nb::gil_scoped_release release;
  f(data, int64_t(x.size()), results);
  return out;
}

template <class Function> NewArray<float> gated(const AnyArray& gate, const AnyArray& up, Function f) {
  const float* gates = elements<float>(gate, "gate");
  const float* ups = elements<float>(up, "up");
  if (shape_of(gate) != shape_of(up))
    throw std::invalid_argument("gate is " + shape_text(gate) + ", up is " + shape_text(up));
  auto out = new_array<float>(shape_of(gate));
  float* results = out.data();
  const nb::gil_scoped_release release;
  f(gates, ups, int64_t(gate.size()), results);
  return out;
}

NewArray<double> statistics(const AnyArray& x) {
  const float* rows = elements<float>(x, "x", {-1, -1});
  const auto n_rows = int64_t(x.shape(0)), columns = int64_t(x.shape(1));
  auto out = new_array<double>({size_t(n_rows), size_t(kStatistics)});
  double* data = out.data();
  const nb::gil_scoped_release release;
  for (int64_t row = 0; row < n_rows; ++row)
    kernels().statistics(rows + row * columns, columns, data + row * kStatistics);
  return out;
}

constexpr int64_t kValuesInChunk = 1 << 15;

// The bytes of a tensor, and whether they hold all values.
nb::tuple encode(Pool& pool, const std::string& name, const AnyArray& values,
                 const std::optional<AnyArray>& importance) {
  const Codec codec = codec_of(name);
  if (!is_block_codec(codec)) throw std::invalid_argument("codec '" + name + "' has no encoder here");
  const float* x = elements<float>(values, "values", {-1, -1});
  const auto n_rows = int64_t(values.shape(0)), columns = int64_t(values.shape(1));
  const int64_t n_bytes = n_rows * row_bytes(codec, columns);
  const float* weights = importance ? elements<float>(*importance, "importance", {columns}) : nullptr;
  auto out = new_array<uint8_t>({size_t(n_bytes)});
  uint8_t* data = out.data();
  std::atomic<bool> is_held{true};
  {
    const nb::gil_scoped_release release;
    const Kernels& kernel = kernels();
    const int64_t size = unit_columns(codec), n_blocks = n_rows * (columns / size);
    std::vector<float> of_rows(weights && size == kBlock ? size_t(n_rows) : 0);
    if (!of_rows.empty())
      pool.parallel((n_rows + kRowsPerBlock - 1) / kRowsPerBlock, [&](int64_t chunk, int) {
        const int64_t first = chunk * kRowsPerBlock;
        kernel.mean_squares(x + first * columns, std::min<int64_t>(kRowsPerBlock, n_rows - first), columns,
                            of_rows.data() + first);
      });
    const int64_t step = kValuesInChunk / size;
    pool.parallel((n_blocks + step - 1) / step, [&](int64_t chunk, int) {
      const int64_t first = chunk * step;
      if (!kernel.encode(codec, x, weights, of_rows.empty() ? nullptr : of_rows.data(), columns, first,
                         std::min(first + step, n_blocks), data))
        is_held = false;
    });
  }
  return nb::make_tuple(out, is_held.load());
}

NewArray<float> attention(const AnyArray& q, const AnyArray& k, const AnyArray& v, float scale, int64_t window,
                          float softcap, const std::string& dtype) {
  const float* queries = elements<float>(q, "q", {-1, -1, -1});
  const auto n_queries = int64_t(q.shape(0)), num_heads = int64_t(q.shape(1)), head_dim = int64_t(q.shape(2));
  const float* keys = elements<float>(k, "k", {-1, -1, head_dim});
  const auto n_keys = int64_t(k.shape(0)), num_key_value_heads = int64_t(k.shape(1));
  const float* values = elements<float>(v, "v", {n_keys, num_key_value_heads, head_dim});
  if (num_key_value_heads < 1 || num_heads % num_key_value_heads != 0 || n_keys < n_queries)
    throw std::invalid_argument("q is " + shape_text(q) + ", k is " + shape_text(k) +
                                ": expected as many heads for each key-value head, and no more queries than keys");
  if (window < 0 || !(softcap >= 0)) throw std::invalid_argument("window and softcap must be 0 for none, or positive");
  KVCache cache(1, int(num_key_value_heads), int(head_dim), is_float16(dtype));
  auto out = new_array<float>({size_t(n_queries), size_t(num_heads * head_dim)});
  float* results = out.data();
  const nb::gil_scoped_release release;
  if (n_queries == 0 || num_heads == 0) return out;
  cache.reserve(n_keys);
  const Attention a{cache.keys(0), cache.values(0), int(num_heads), int(num_key_value_heads), int(head_dim),
                    scale,         window,          softcap};
  const Kernels& kernel = kernels();
  const int64_t of_keys = num_key_value_heads * head_dim, of_queries = num_heads * head_dim;
  for (int64_t t = 0; t < n_keys; ++t) kernel.append(a, keys + t * of_keys, values + t * of_keys, t);
  const Memory scratch = allocate(size_t(kernel.attention_scratch(a, n_keys)) * sizeof(float));
  for (int head = 0; head < int(num_key_value_heads); ++head)
    kernel.attention(a, queries, of_queries, n_queries, n_keys - n_queries, head, results, of_queries,
                     reinterpret_cast<float*>(scratch.get()));
  return out;
}

const float* row_of_logits(const AnyArray& logits) {
  const float* row = elements<float>(logits, "logits", {-1});
  if (logits.size() == 0) throw std::invalid_argument("logits is empty");
  return row;
}

Summary summarize_array(const AnyArray& logits, int64_t k) {
  const float* row = row_of_logits(logits);
  const auto n = int64_t(logits.size());
  if (k < 1 || k > n) throw std::invalid_argument("k is " + std::to_string(k) + ", expected 1 to " + std::to_string(n));
  const nb::gil_scoped_release release;
  return summarize(kernels(), row, n, k);
}

int64_t sample_array(const AnyArray& logits, float temperature, int64_t top_k, double top_p, double min_p,
                     double uniform) {
  const float* row = row_of_logits(logits);
  if (!(temperature > 0) || top_k < 0 || !(top_p >= 0 && top_p <= 1) || !(min_p >= 0 && min_p <= 1) ||
      !(uniform >= 0 && uniform < 1))
    throw std::invalid_argument("sample: temperature must be above 0, top_k 0 or more, top_p and min_p in [0, 1], "
                                "uniform in [0, 1)");
  const nb::gil_scoped_release release;
  return sample(kernels(), row, int64_t(logits.size()), {temperature, top_k, top_p, min_p, uniform});
}

NewArray<int64_t> top_of(const Summary& summary) {
  auto top = new_array<int64_t>({summary.top.size()});
  std::copy(summary.top.begin(), summary.top.end(), top.data());
  return top;
}

}  // namespace

void bind_ops(nb::module_& m) {
  m.def("linear", &linear, nb::arg("pool"), nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(),
        nb::arg("activations"));
  m.def("rmsnorm", &rmsnorm, nb::arg("x"), nb::arg("weight"), nb::arg("eps"));
  m.def("rope", &rope, nb::arg("x"), nb::arg("cos"), nb::arg("sin"));
  m.def("silu", [](const AnyArray& x) { return unary(x, kernels().silu); }, nb::arg("x"));
  m.def("gelu_tanh", [](const AnyArray& x) { return unary(x, kernels().gelu_tanh); }, nb::arg("x"));
  m.def("softcap",
        [](const AnyArray& x, float cap) {
          if (!(cap > 0)) throw std::invalid_argument("cap must be positive");
          return unary(x, [cap](const float* in, int64_t n, float* out) { kernels().softcap(in, cap, n, out); });
        },
        nb::arg("x"), nb::arg("cap"));
  m.def("silu_multiply",
        [](const AnyArray& gate, const AnyArray& up) { return gated(gate, up, kernels().silu_multiply); },
        nb::arg("gate"), nb::arg("up"));
  m.def("gelu_tanh_multiply",
        [](const AnyArray& gate, const AnyArray& up) { return gated(gate, up, kernels().gelu_tanh_multiply); },
        nb::arg("gate"), nb::arg("up"));
  m.def("encode", &encode, nb::arg("pool"), nb::arg("codec"), nb::arg("values"), nb::arg("importance").none());
  m.def("statistics", &statistics, nb::arg("x"));
  m.def("attention", &attention, nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("scale"), nb::arg("window"),
        nb::arg("softcap"), nb::arg("dtype"));

  nb::class_<Summary>(m, "Summary")
      .def_prop_ro("top", &top_of, nb::rv_policy::automatic)
      .def_ro("log_sum", &Summary::log_sum)
      .def_ro("is_finite", &Summary::is_finite);
  m.def("summarize", &summarize_array, nb::arg("logits"), nb::arg("k"));
  m.def("sample", &sample_array, nb::arg("logits"), nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"),
        nb::arg("min_p"), nb::arg("uniform"));
}

}  // namespace apr
