// The Python class `Plan`.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "arrays.h"
#include "module.h"
#include "plan.h"

namespace apr {
namespace {

std::vector<float> copy(const AnyArray& array, const char* name) {
  const float* data = elements<float>(array, name, {-1});
  return {data, data + array.size()};
}

int linear(Plan& plan, int x,
           const std::vector<std::tuple<std::shared_ptr<Weight>, std::optional<AnyArray>, int>>& products) {
  std::vector<Plan::LinearProduct> converted;
  for (const auto& [weight, bias, out] : products) {
    if (bias && bias->size() == 0) throw std::invalid_argument("linear: the bias is empty, None is for none");
    converted.push_back({weight, bias ? copy(*bias, "bias") : std::vector<float>(), out});
  }
  return plan.linear(x, std::move(converted));
}

void bind_tokens(Plan& plan, const AnyArray& token_ids, const std::vector<std::shared_ptr<KVCache>>& caches,
                 const std::vector<int64_t>& lengths, const std::vector<AnyArray>& tables) {
  const int64_t* ids = elements<int64_t>(token_ids, "token_ids", {-1});
  std::vector<Plan::Angles> angles;
  for (const AnyArray& table : tables) {
    const float* data = elements<float>(table, "tables", {-1, -1});
    angles.push_back({data, int64_t(table.shape(0)), int64_t(table.shape(1))});
  }
  plan.bind(ids, int64_t(token_ids.size()), caches, lengths, angles);
}

NewArray<float> read(const Plan& plan, int buffer) {
  auto out = new_array<float>({size_t(plan.n_rows(buffer)), size_t(plan.width(buffer))});
  float* data = out.data();
  const nb::gil_scoped_release release;
  plan.read(buffer, data);
  return out;
}

void write(Plan& plan, int buffer, const AnyArray& values) {
  plan.write(buffer, elements<float>(values, "values", {plan.n_rows(buffer), plan.width(buffer)}));
}

NewArray<double> statistics(const Plan& plan, Pool& pool, int buffer) {
  auto out = new_array<double>({size_t(plan.n_rows(buffer)), size_t(kStatistics)});
  double* data = out.data();
  const nb::gil_scoped_release release;
  plan.statistics(pool, buffer, data);
  return out;
}

template <class Class> void bind_elementwise(Class& plan) {
  const auto unary = [&](const char* name, Op op) {
    plan.def(name, [op](Plan& self, int x, int out) { return self.unary(op, x, 0, out); }, nb::arg("x"),
             nb::arg("out"));
  };
  const auto with_number = [&](const char* name, Op op, const char* number) {
    plan.def(name, [op](Plan& self, int x, float value, int out) { return self.unary(op, x, value, out); },
             nb::arg("x"), nb::arg(number), nb::arg("out"));
  };
  const auto binary = [&](const char* name, Op op, const char* x, const char* y) {
    plan.def(name, [op](Plan& self, int first, int second, int out) { return self.binary(op, first, second, out); },
             nb::arg(x), nb::arg(y), nb::arg("out"));
  };
  with_number("scale", Op::scale, "factor");
  with_number("softcap", Op::softcap, "cap");
  unary("silu", Op::silu);
  unary("gelu_tanh", Op::gelu_tanh);
  binary("add", Op::add, "x", "y");
  binary("multiply", Op::multiply, "x", "y");
  binary("silu_multiply", Op::silu_multiply, "gate", "up");
  binary("gelu_tanh_multiply", Op::gelu_tanh_multiply, "gate", "up");
}

}  // namespace

Activations activations_of(const std::string& name) {
  if (name == "int8") return Activations::int8;
  if (name == "float32") return Activations::float32;
  throw std::invalid_argument("activations '" + name + "', expected int8 or float32");
}

void bind_plan(nb::module_& m) {
  nb::class_<Plan> plan(m, "Plan");
  plan.def("__init__", [](Plan* self, const std::string& activations) { new (self) Plan(activations_of(activations)); },
           nb::arg("activations"))
      .def("buffer", &Plan::buffer, nb::arg("width"))
      .def("columns", &Plan::columns, nb::arg("buffer"), nb::arg("start"), nb::arg("stop"))
      .def("embedding", [](Plan& self, std::shared_ptr<Table> table, int out) { return self.embedding(table, out); },
           nb::arg("table"), nb::arg("out"));
  bind_elementwise(plan);
  plan.def("rmsnorm",
           [](Plan& self, int x, const AnyArray& weight, float eps, int out) {
             return self.rmsnorm(x, copy(weight, "weight"), eps, out);
           },
           nb::arg("x"), nb::arg("weight"), nb::arg("eps"), nb::arg("out"))
      .def("linear", &linear, nb::arg("x"), nb::arg("products"))
      .def("rope", &Plan::rope, nb::arg("x"), nb::arg("table"), nb::arg("head_dim"), nb::arg("out"))
      .def("attention",
           [](Plan& self, int q, int k, int v, int out, int layer, int head_dim, float scale, int64_t window,
              float softcap) {
             return self.attention(q, k, v, out, {layer, head_dim, scale, window, softcap});
           },
           nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::arg("out"), nb::arg("layer"), nb::arg("head_dim"),
           nb::arg("scale"), nb::arg("window"), nb::arg("softcap"))
      .def("last_rows", &Plan::last_rows, nb::arg("x"), nb::arg("out"))
      .def("bind", &bind_tokens, nb::arg("token_ids"), nb::arg("caches"), nb::arg("lengths"), nb::arg("tables"))
      .def("run", &Plan::run, nb::arg("pool"), nb::arg("first"), nb::arg("last"),
           nb::call_guard<nb::gil_scoped_release>())
      .def("advance", &Plan::advance)
      .def("read", &read, nb::arg("buffer"))
      .def("write", &write, nb::arg("buffer"), nb::arg("values"))
      .def("statistics", &statistics, nb::arg("pool"), nb::arg("buffer"));
}

}  // namespace apr
