// The table of this instruction set's ops.
#include "kernels.h"
#include "ops.h"

#define APR_STRING_OF(x) #x
#define APR_STRING(x) APR_STRING_OF(x)

namespace apr::APR_ISA {

constexpr Kernels make_table() {
  Kernels k{};
  k.name = APR_STRING(APR_ISA);
  k.quantize = quantize;
  k.arrange = arrange;
  k.linear = linear;
  k.pack = pack;
  k.decode_row = decode_row;
  k.encode = encode;
  k.mean_squares = mean_squares;
  k.rmsnorm = rmsnorm;
  k.rope = rope;
  k.add = add;
  k.multiply = multiply;
  k.scale = scale;
  k.silu = silu;
  k.gelu_tanh = gelu_tanh;
  k.silu_multiply = silu_multiply;
  k.gelu_tanh_multiply = gelu_tanh_multiply;
  k.softcap = softcap;
  k.statistics = statistics;
  k.append = append;
  k.attention = attention;
  k.attention_scratch = attention_scratch;
  k.max = max;
  k.sum_exp = sum_exp;
  return k;
}

const Kernels table = make_table();

}  // namespace apr::APR_ISA
