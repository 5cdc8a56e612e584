// How fast this machine reads memory: the limit that decoding is measured against.
#pragma once

#include <cstdint>
#include <vector>

#include "pool.h"

namespace apr {

// GB/s of plain reads of n_bytes by all threads, a figure a repeat. The memory is written first, in huge pages where
// there are some, as weights are. Raises std::invalid_argument.
std::vector<double> read_bandwidth(Pool& pool, int64_t n_bytes, int repeats);

}  // namespace apr
