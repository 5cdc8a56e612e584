// One row of logits: its highest, its normaliser, and a token drawn from it.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace apr {

struct Summary {
  std::vector<int64_t> top;  // the k highest, in descending order, lower ids first among equals; NaN is below all
  double log_sum;            // log(sum(exp(logits)))
  bool is_finite;            // whether all logits are
};

// 1 <= k <= n
Summary summarize(const Kernels& kernels, const float* logits, int64_t n, int64_t k);

struct Draw {
  float temperature;  // above 0
  int64_t top_k;      // 0 for none
  double top_p, min_p;
  double uniform;  // in [0, 1)
};

// The id that `drawn` in engines/_sampling.py gives. Of logits that hold NaN or +infinity, some id.
int64_t sample(const Kernels& kernels, const float* logits, int64_t n, const Draw& draw);

}  // namespace apr
