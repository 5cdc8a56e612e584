// The instruction set that is computed with.
#pragma once

#include <string>

#include "kernels.h"

namespace apr {

// The table in use: the best one, until use_kernels() says otherwise.
const Kernels& kernels();

// All instruction sets read the same weights, so the change may come at any time; a computation that has begun goes on
// with the old one. Raises std::invalid_argument for a name that is not available.
void use_kernels(const std::string& name);

}  // namespace apr
