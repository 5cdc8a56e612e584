// Vectors of 8 lanes in plain C++ (GCC and Clang vector types): every CPU, and the reading copy of the other files.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace apr::APR_ISA {

typedef float floats __attribute__((vector_size(32)));
typedef int32_t ints __attribute__((vector_size(32)));
typedef uint32_t words __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(32)));

inline float half_to_float(uint16_t h) {
  // the exponent moves from bias 15 to 127 by a product, which also brings subnormals right; source: Giesen 2012
  const uint32_t magnitude = uint32_t(h & 0x7fff) << 13;
  float x, scale;
  const uint32_t scale_bits = uint32_t(254 - 15) << 23;
  std::memcpy(&x, &magnitude, 4);
  std::memcpy(&scale, &scale_bits, 4);
  x *= scale;
  uint32_t out;
  std::memcpy(&out, &x, 4);
  if ((h & 0x7c00) == 0x7c00) out |= 0x7f800000;  // inf and NaN
  out |= uint32_t(h & 0x8000) << 16;
  std::memcpy(&x, &out, 4);
  return x;
}

inline uint16_t float_to_half(float f) {
  uint32_t x;
  std::memcpy(&x, &f, 4);
  const uint16_t sign = uint16_t((x >> 16) & 0x8000);
  x &= 0x7fffffff;
  if (x >= 0x7f800000) return uint16_t(sign | 0x7c00 | (x > 0x7f800000 ? 0x200 : 0));
  if (x >= 0x477ff000) return uint16_t(sign | 0x7c00);  // rounds to infinity
  if (x < 0x38800000) {                                 // subnormal: adding 0.5 rounds at the right bit
    float magnitude;
    std::memcpy(&magnitude, &x, 4);
    magnitude += 0.5f;
    std::memcpy(&x, &magnitude, 4);
    return uint16_t(sign | (x - 0x3f000000));
  }
  const uint32_t odd = (x >> 13) & 1;
  return uint16_t(sign | ((x + 0xc8000fff + odd) >> 13));  // exponent to bias 15, nearest, ties to even
}

struct F {  // 8 float32
  floats v;
  static constexpr int lanes = 8;
  static F zero() { return set(0); }
  static F set(float x) { return {floats{x, x, x, x, x, x, x, x}}; }
  static F load(const float* p) {
    F out;
    std::memcpy(&out.v, p, sizeof out.v);
    return out;
  }
  static F load_n(const float* p, int n) {
    F out = zero();
    std::memcpy(&out.v, p, n * sizeof(float));
    return out;
  }
  static F load_f16(const void* p) {
    F out;
    for (int i = 0; i < 8; ++i) out.v[i] = half_to_float(reinterpret_cast<const uint16_t*>(p)[i]);
    return out;
  }
  static F load_bf16(const void* p) {
    words bits;
    for (int i = 0; i < 8; ++i) bits[i] = uint32_t(reinterpret_cast<const uint16_t*>(p)[i]) << 16;
    return {(floats)bits};
  }
  void store(float* p) const { std::memcpy(p, &v, sizeof v); }
  void store_n(float* p, int n) const { std::memcpy(p, &v, n * sizeof(float)); }
  void store_f16(void* p) const {
    for (int i = 0; i < 8; ++i) reinterpret_cast<uint16_t*>(p)[i] = float_to_half(v[i]);
  }
};
inline F operator+(F a, F b) { return {a.v + b.v}; }
inline F operator-(F a, F b) { return {a.v - b.v}; }
inline F operator*(F a, F b) { return {a.v * b.v}; }
inline F operator/(F a, F b) { return {a.v / b.v}; }
inline F fma(F a, F b, F c) { return {a.v * b.v + c.v}; }  // two roundings where the CPU has no fused product
inline F max(F a, F b) { return {a.v > b.v ? a.v : b.v}; }
inline F min(F a, F b) { return {a.v < b.v ? a.v : b.v}; }
inline F abs(F a) { return {(floats)((words)a.v & 0x7fffffffu)}; }
inline F sqrt(F a) {
  F out;
  for (int i = 0; i < 8; ++i) out.v[i] = __builtin_sqrtf(a.v[i]);
  return out;
}
inline float sum(F a) { return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7])); }
inline float max(F a) {
  float x = a.v[0];
  for (int i = 1; i < 8; ++i) x = a.v[i] > x ? a.v[i] : x;
  return x;
}
inline float min(F a) {
  float x = a.v[0];
  for (int i = 1; i < 8; ++i) x = a.v[i] < x ? a.v[i] : x;
  return x;
}

struct I {  // 8 int32
  ints v;
  static I set(int32_t x) { return {ints{x, x, x, x, x, x, x, x}}; }
  static I load_i8(const void* p) {
    I out;
    for (int i = 0; i < 8; ++i) out.v[i] = reinterpret_cast<const int8_t*>(p)[i];
    return out;
  }
  static I load_u8(const void* p) {
    I out;
    for (int i = 0; i < 8; ++i) out.v[i] = reinterpret_cast<const uint8_t*>(p)[i];
    return out;
  }
  void store(int32_t* p) const { std::memcpy(p, &v, sizeof v); }
  void store_i8(void* p) const {
    for (int i = 0; i < 8; ++i) reinterpret_cast<int8_t*>(p)[i] = int8_t(v[i]);
  }
};
inline I operator+(I a, I b) { return {a.v + b.v}; }
inline I operator-(I a, I b) { return {a.v - b.v}; }
inline I operator&(I a, I b) { return {a.v & b.v}; }
inline I operator|(I a, I b) { return {a.v | b.v}; }
inline I max(I a, I b) { return {a.v > b.v ? a.v : b.v}; }
template <int N> I shift_left(I a) { return {(ints)((words)a.v << N)}; }
template <int N> I shift_right(I a) { return {a.v >> N}; }
inline F to_float(I a) { return {__builtin_convertvector(a.v, floats)}; }
inline I to_int(F a) {  // nearest, ties to even
  I out;
  for (int i = 0; i < 8; ++i) out.v[i] = int32_t(std::lrintf(a.v[i]));
  return out;
}
inline int32_t sum(I a) {
  int32_t x = 0;
  for (int i = 0; i < 8; ++i) x += a.v[i];
  return x;
}
inline F bits_to_float(I a) { return {(floats)a.v}; }
inline I float_to_bits(F a) { return {(ints)a.v}; }
inline I truncate(F a) { return {__builtin_convertvector(a.v, ints)}; }

// Lane i of vector j becomes lane j of vector i.
inline void transpose(F (&x)[8]) {
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < i; ++j) {
      const float swapped = x[i].v[j];
      x[i].v[j] = x[j].v[i];
      x[j].v[i] = swapped;
    }
}

// A choice for each lane. Comparisons with a NaN are false.
struct M {
  ints v;
};
inline M less(F a, F b) { return {a.v < b.v}; }
inline M at_most(F a, F b) { return {a.v <= b.v}; }
inline M equal(F a, F b) { return {a.v == b.v}; }
inline M operator&(M a, M b) { return {a.v & b.v}; }
inline M operator|(M a, M b) { return {a.v | b.v}; }
inline M operator!(M a) { return {~a.v}; }
inline bool any(M a) {
  int32_t x = 0;
  for (int i = 0; i < 8; ++i) x |= a.v[i];
  return x != 0;
}
inline F select(M m, F yes, F no) { return {m.v ? yes.v : no.v}; }

struct B {  // 32 bytes: 8 rows of 4 weights
  bytes v;
  static constexpr int rows = 8;
  static B load(const uint8_t* p) {
    B out;
    std::memcpy(&out.v, p, sizeof out.v);
    return out;
  }
  static B set(uint8_t x) { return {bytes{} + x}; }
};
inline B operator&(B a, B b) { return {a.v & b.v}; }
inline B operator|(B a, B b) { return {a.v | b.v}; }
inline B operator-(B a, B b) { return {a.v - b.v}; }
// Shifts may cross from byte to byte on other sets: mask afterwards.
template <int N> B shift_left(B a) { return {a.v << N}; }
template <int N> B shift_right(B a) { return {a.v >> N}; }
inline I lanes(B a) { return {(ints)a.v}; }

// The sum of n vectors of 4-element products with 4 n activations, plus neg_sum * offset. Weights below 8 bits are
// unsigned, those of 8 are signed.
template <int bits, int offset, int n> inline I dot(const B* w, const int8_t* y, int32_t neg_sum) {
  I acc = I::set(bits == 8 ? 0 : neg_sum * offset);
  for (int i = 0; i < n; ++i) {
    const ints four = (ints)w[i].v;
    for (int j = 0; j < 4; ++j) {
      const ints weight = bits == 8 ? (ints)((words)four << (24 - 8 * j)) >> 24 : (four >> (8 * j)) & 0xff;
      acc.v += weight * int32_t(y[4 * i + j]);
    }
  }
  return acc;
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace apr::APR_ISA
