// Calls f with a value of the struct of a block codec; false for the row-major codecs f16, bf16 and f32.
#pragma once

#include "q2_k.h"
#include "q3_k.h"
#include "q4_0.h"
#include "q4_1.h"
#include "q4_k.h"
#include "q5_0.h"
#include "q5_1.h"
#include "q5_k.h"
#include "q6_k.h"
#include "q8_0.h"

namespace apr::APR_ISA {

template <class Function> inline bool with_block_codec(Codec codec, Function f) {
  switch (codec) {
    case Codec::q4_0: f(Q4_0{}); return true;
    case Codec::q4_1: f(Q4_1{}); return true;
    case Codec::q5_0: f(Q5_0{}); return true;
    case Codec::q5_1: f(Q5_1{}); return true;
    case Codec::q8_0: f(Q8_0{}); return true;
    case Codec::q2_k: f(Q2_K{}); return true;
    case Codec::q3_k: f(Q3_K{}); return true;
    case Codec::q4_k: f(Q4_K{}); return true;
    case Codec::q5_k: f(Q5_K{}); return true;
    case Codec::q6_k: f(Q6_K{}); return true;
    default: return false;
  }
}

// Calls f(Index<0>{}) … f(Index<n - 1>{}).
template <int i> struct Index { static constexpr int value = i; };
template <int n, int i = 0, class Function> inline __attribute__((always_inline)) void unrolled(Function f) {
  if constexpr (i < n) {
    f(Index<i>{});
    unrolled<n, i + 1>(f);
  }
}

}  // namespace apr::APR_ISA
