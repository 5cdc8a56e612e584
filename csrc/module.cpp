// The Python module `apr.kernels._native`; `_native.pyi` says what everything means. Computing releases the
// interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>

#include "arrays.h"
#include "bandwidth.h"
#include "cpu.h"
#include "kv_cache.h"
#include "module.h"
#include "pool.h"
#include "weight.h"

namespace apr {

namespace {

Raw borrow(const AnyArray& raw) { return {elements<uint8_t>(raw, "raw"), int64_t(raw.size()), nullptr}; }

// For longer than a call: the array is given up, with the lock held, when the last copy goes.
Raw keep(const AnyArray& raw) {
  Raw kept = borrow(raw);
  kept.owner = std::make_shared<AnyArray>(raw);
  return kept;
}

void fill(Weight& weight, const AnyArray& raw, int64_t first_row, int64_t n_rows,
          const std::optional<AnyArray>& row_order) {
  const Raw bytes = borrow(raw);
  const int64_t* order = row_order ? elements<int64_t>(*row_order, "row_order", {weight.matrix().rows}) : nullptr;
  const nb::gil_scoped_release release;
  weight.fill(bytes, first_row, n_rows, order);
}

NewArray<float> decode(const Weight& weight, const AnyArray& rows) {
  const Matrix& m = weight.matrix();
  const int64_t* indices = elements<int64_t>(rows, "rows", {-1});
  for (size_t i = 0; i < rows.size(); ++i)
    if (indices[i] < 0 || indices[i] >= m.rows)
      throw std::invalid_argument("rows[" + std::to_string(i) + "] is " + std::to_string(indices[i]) +
                                  ", the weight has " + std::to_string(m.rows));
  auto out = new_array<float>({rows.size(), size_t(m.columns)});
  float* data = out.data();
  const nb::gil_scoped_release release;
  for (size_t i = 0; i < rows.size(); ++i) weight.decode(indices[i], data + int64_t(i) * m.columns);
  return out;
}

void bind_weights(nb::module_& m) {
  nb::class_<Weight>(m, "Weight")
      .def("__init__",
           [](Weight* self, const std::string& codec, int64_t rows, int64_t columns) {
             new (self) Weight(codec_of(codec), rows, columns);
           },
           nb::arg("codec"), nb::arg("rows"), nb::arg("columns"))
      .def_prop_ro("rows", [](const Weight& self) { return self.matrix().rows; })
      .def_prop_ro("columns", [](const Weight& self) { return self.matrix().columns; })
      .def_prop_ro("codec", [](const Weight& self) { return sizes(self.matrix().codec).name; })
      .def_prop_ro("n_bytes", &Weight::n_bytes)
      .def_static("row_bytes",
                  [](const std::string& codec, int64_t columns) { return row_bytes(codec_of(codec), columns); },
                  nb::arg("codec"), nb::arg("columns"))
      .def("fill", &fill, nb::arg("raw"), nb::arg("first_row"), nb::arg("n_rows"), nb::arg("row_order").none())
      .def_static("in_place",
                  [](const std::string& codec, int64_t rows, int64_t columns, const AnyArray& raw) {
                    return Weight(codec_of(codec), rows, columns, keep(raw));
                  },
                  nb::arg("codec"), nb::arg("rows"), nb::arg("columns"), nb::arg("raw"))
      .def("decode", &decode, nb::arg("rows"));

  nb::class_<Table>(m, "Table")
      .def("__init__",
           [](Table* self, const std::string& codec, int64_t rows, int64_t columns, const AnyArray& raw) {
             new (self) Table(codec_of(codec), rows, columns, keep(raw));
           },
           nb::arg("codec"), nb::arg("rows"), nb::arg("columns"), nb::arg("raw"));
}

void bind_cache(nb::module_& m) {
  nb::class_<KVCache>(m, "KVCache")
      .def("__init__",
           [](KVCache* self, int num_hidden_layers, int num_key_value_heads, int head_dim, const std::string& dtype) {
             new (self) KVCache(num_hidden_layers, num_key_value_heads, head_dim, is_float16(dtype));
           },
           nb::arg("num_hidden_layers"), nb::arg("num_key_value_heads"), nb::arg("head_dim"), nb::arg("dtype"))
      .def_prop_ro("length", &KVCache::length)
      .def_prop_ro("n_bytes", &KVCache::n_bytes)
      .def("truncate", &KVCache::truncate, nb::arg("length"));
}

}  // namespace

bool is_float16(const std::string& dtype) {
  if (dtype != "float16" && dtype != "float32")
    throw std::invalid_argument("dtype '" + dtype + "', expected float16 or float32");
  return dtype == "float16";
}

NB_MODULE(_native, m) {
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* const* table = available_kernels(); *table; ++table) names.emplace_back((*table)->name);
    return names;
  });
  m.def("instruction_set", [] { return kernels().name; });
  m.def("use_instruction_set", &use_kernels, nb::arg("name"));

  nb::class_<Pool>(m, "Pool").def(nb::init<int>(), nb::arg("threads")).def_prop_ro("threads", &Pool::threads);

  bind_weights(m);
  bind_cache(m);
  bind_plan(m);
  bind_ops(m);

  m.def("read_bandwidth", &read_bandwidth, nb::arg("pool"), nb::arg("n_bytes"), nb::arg("repeats"),
        nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace apr
