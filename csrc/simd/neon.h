// Vectors of 4 lanes: AArch64 NEON with the dot-product extension.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace apr::APR_ISA {

struct F {  // 4 float32
  float32x4_t v;
  static constexpr int lanes = 4;
  static F zero() { return {vdupq_n_f32(0)}; }
  static F set(float x) { return {vdupq_n_f32(x)}; }
  static F load(const float* p) { return {vld1q_f32(p)}; }
  static F load_n(const float* p, int n) {
    float lanes[4] = {};
    std::memcpy(lanes, p, n * sizeof(float));
    return load(lanes);
  }
  static F load_f16(const void* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)p)))}; }
  static F load_bf16(const void* p) {
    return {vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16((const uint16_t*)p)), 16))};
  }
  void store(float* p) const { vst1q_f32(p, v); }
  void store_n(float* p, int n) const {
    float lanes[4];
    store(lanes);
    std::memcpy(p, lanes, n * sizeof(float));
  }
  void store_f16(void* p) const { vst1_u16((uint16_t*)p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
};
inline F operator+(F a, F b) { return {vaddq_f32(a.v, b.v)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.v, b.v)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.v, b.v)}; }
inline F operator/(F a, F b) { return {vdivq_f32(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline F max(F a, F b) { return {vmaxq_f32(a.v, b.v)}; }
inline F min(F a, F b) { return {vminq_f32(a.v, b.v)}; }
inline F abs(F a) { return {vabsq_f32(a.v)}; }
inline F sqrt(F a) { return {vsqrtq_f32(a.v)}; }
inline float sum(F a) { return vaddvq_f32(a.v); }
inline float max(F a) { return vmaxvq_f32(a.v); }
inline float min(F a) { return vminvq_f32(a.v); }

struct I {  // 4 int32
  int32x4_t v;
  static I set(int32_t x) { return {vdupq_n_s32(x)}; }
  static I load_i8(const void* p) {
    int8_t bytes[8] = {};
    std::memcpy(bytes, p, 4);
    return {vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(bytes))))};
  }
  static I load_u8(const void* p) {
    uint8_t bytes[8] = {};
    std::memcpy(bytes, p, 4);
    return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vld1_u8(bytes)))))};
  }
  void store(int32_t* p) const { vst1q_s32(p, v); }
  void store_i8(void* p) const {
    const int8x8_t bytes = vmovn_s16(vcombine_s16(vmovn_s32(v), vmovn_s32(v)));
    int8_t out[8];
    vst1_s8(out, bytes);
    std::memcpy(p, out, 4);
  }
};
inline I operator+(I a, I b) { return {vaddq_s32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {vsubq_s32(a.v, b.v)}; }
inline I operator&(I a, I b) { return {vandq_s32(a.v, b.v)}; }
inline I operator|(I a, I b) { return {vorrq_s32(a.v, b.v)}; }
inline I max(I a, I b) { return {vmaxq_s32(a.v, b.v)}; }
template <int N> I shift_left(I a) { return {vshlq_n_s32(a.v, N)}; }
template <int N> I shift_right(I a) {
  if constexpr (N == 0) return a;
  else return {vshrq_n_s32(a.v, N)};
}
inline F to_float(I a) { return {vcvtq_f32_s32(a.v)}; }
inline I to_int(F a) { return {vcvtnq_s32_f32(a.v)}; }  // nearest, ties to even
inline int32_t sum(I a) { return vaddvq_s32(a.v); }
inline F bits_to_float(I a) { return {vreinterpretq_f32_s32(a.v)}; }
inline I float_to_bits(F a) { return {vreinterpretq_s32_f32(a.v)}; }
inline I truncate(F a) { return {vcvtq_s32_f32(a.v)}; }

// Lane i of vector j becomes lane j of vector i.
inline void transpose(F (&x)[4]) {
  const float32x4x2_t a = vtrnq_f32(x[0].v, x[1].v), b = vtrnq_f32(x[2].v, x[3].v);
  for (int i = 0; i < 2; ++i) {
    x[i].v = vcombine_f32(vget_low_f32(a.val[i]), vget_low_f32(b.val[i]));
    x[i + 2].v = vcombine_f32(vget_high_f32(a.val[i]), vget_high_f32(b.val[i]));
  }
}

// A choice for each lane. Comparisons with a NaN are false.
struct M {
  uint32x4_t v;
};
inline M less(F a, F b) { return {vcltq_f32(a.v, b.v)}; }
inline M at_most(F a, F b) { return {vcleq_f32(a.v, b.v)}; }
inline M equal(F a, F b) { return {vceqq_f32(a.v, b.v)}; }
inline M operator&(M a, M b) { return {vandq_u32(a.v, b.v)}; }
inline M operator|(M a, M b) { return {vorrq_u32(a.v, b.v)}; }
inline M operator!(M a) { return {vmvnq_u32(a.v)}; }
inline bool any(M a) { return vmaxvq_u32(a.v) != 0; }
inline F select(M m, F yes, F no) { return {vbslq_f32(m.v, yes.v, no.v)}; }

struct B {  // 16 bytes: 4 rows of 4 weights
  uint8x16_t v;
  static constexpr int rows = 4;
  static B load(const uint8_t* p) { return {vld1q_u8(p)}; }
  static B set(uint8_t x) { return {vdupq_n_u8(x)}; }
};
inline B operator&(B a, B b) { return {vandq_u8(a.v, b.v)}; }
inline B operator|(B a, B b) { return {vorrq_u8(a.v, b.v)}; }
inline B operator-(B a, B b) { return {vsubq_u8(a.v, b.v)}; }
// Shifts may cross from byte to byte on other sets: mask afterwards.
template <int N> B shift_left(B a) { return {vshlq_n_u8(a.v, N)}; }
template <int N> B shift_right(B a) {
  if constexpr (N == 0) return a;
  else return {vshrq_n_u8(a.v, N)};
}
inline I lanes(B a) { return {vreinterpretq_s32_u8(a.v)}; }

// The sum of n vectors of 4-element products with 4 n activations, plus neg_sum * offset. Weights below 8 bits are
// unsigned and fit in 7 bits; those of 8 are signed.
template <int bits, int offset, int n> inline I dot(const B* w, const int8_t* y, int32_t neg_sum) {
  int32x4_t acc = vdupq_n_s32(bits == 8 ? 0 : neg_sum * offset);
  for (int i = 0; i < n; ++i) {
    int32_t four;
    std::memcpy(&four, y + 4 * i, 4);
    acc = vdotq_s32(acc, vreinterpretq_s8_u8(w[i].v), vreinterpretq_s8_s32(vdupq_n_s32(four)));
  }
  return {acc};
}

inline void prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace apr::APR_ISA
