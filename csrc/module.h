// What the parts of the Python module share.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "products.h"

namespace apr {

void bind_plan(nanobind::module_& m);  // module_plan.cpp
void bind_ops(nanobind::module_& m);   // module_ops.cpp

// Raises std::invalid_argument.
Activations activations_of(const std::string& name);
bool is_float16(const std::string& dtype);

}  // namespace apr
