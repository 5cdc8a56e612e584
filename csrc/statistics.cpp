// Statistics of one row, in float64; two passes, so that a large mean does not swallow a small deviation.
// Relative error of mean (of the mean of |x|), std and rms below n * 2^-53; the rest is exact.
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "ops.h"

namespace apr::APR_ISA {

namespace {

// Independent sums, by index modulo kChains: without them every addition would wait for the one before.
constexpr int kChains = 16;

constexpr uint32_t kInfinity = 0x7f800000;  // above it: NaN

inline uint32_t magnitude_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}

// x if it is finite, otherwise the float of these bits. Masks, because compilers make branches of a choice.
inline float finite_or(float x, uint32_t otherwise) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t mask = uint32_t(0) - uint32_t((bits & 0x7fffffff) < kInfinity);
  bits = (bits & mask) | (otherwise & ~mask);
  std::memcpy(&x, &bits, 4);
  return x;
}

struct Sums {
  double sum[kChains] = {}, squares[kChains] = {};
  float least[kChains], most[kChains];
  int32_t nan[kChains] = {}, inf[kChains] = {};

  Sums() {
    for (int j = 0; j < kChains; ++j) least[j] = INFINITY, most[j] = -INFINITY;
  }
  void take(float x, int j) {
    const uint32_t bits = magnitude_bits(x);
    nan[j] += bits > kInfinity;
    inf[j] += bits == kInfinity;
    const float up = finite_or(x, kInfinity), down = finite_or(x, kInfinity | 0x80000000);
    least[j] = up < least[j] ? up : least[j];
    most[j] = down > most[j] ? down : most[j];
    const double value = finite_or(x, 0);
    sum[j] += value;
    squares[j] += value * value;
  }
};

double total(const double* x) {
  double sum = 0;
  for (int j = 0; j < kChains; ++j) sum += x[j];
  return sum;
}

double squared_deviations(const float* x, int64_t n, double mean) {
  double squares[kChains] = {};
  const auto take = [&](float x, int j) {
    const double is_finite = magnitude_bits(x) < kInfinity;
    const double deviation = (double(finite_or(x, 0)) - mean) * is_finite;
    squares[j] += deviation * deviation;
  };
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains)
    for (int j = 0; j < kChains; ++j) take(x[i + j], j);
  for (; i < n; ++i) take(x[i], int(i % kChains));
  return total(squares);
}

}  // namespace

void statistics(const float* x, int64_t n, double out[kStatistics]) {
  Sums sums;
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains)
    for (int j = 0; j < kChains; ++j) sums.take(x[i + j], j);
  for (; i < n; ++i) sums.take(x[i], int(i % kChains));

  float least = INFINITY, most = -INFINITY;
  int64_t nan = 0, inf = 0;
  for (int j = 0; j < kChains; ++j) {
    least = sums.least[j] < least ? sums.least[j] : least;
    most = sums.most[j] > most ? sums.most[j] : most;
    nan += sums.nan[j];
    inf += sums.inf[j];
  }
  const double n_finite = double(n - nan - inf);
  const bool has_finite = n_finite > 0;
  const double mean = has_finite ? total(sums.sum) / n_finite : NAN;
  out[0] = double(n);
  out[1] = mean;
  out[2] = has_finite ? std::sqrt(squared_deviations(x, n, mean) / n_finite) : NAN;
  out[3] = has_finite ? least : NAN;
  out[4] = has_finite ? most : NAN;
  out[5] = has_finite ? std::sqrt(total(sums.squares) / n_finite) : NAN;
  out[6] = double(nan);
  out[7] = double(inf);
}

}  // namespace apr::APR_ISA
