// Vectors of 16 lanes: AVX-512 F, BW, DQ, VL, with or without VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace apr::APR_ISA {

struct F {  // 16 float32
  __m512 v;
  static constexpr int lanes = 16;
  static F zero() { return {_mm512_setzero_ps()}; }
  static F set(float x) { return {_mm512_set1_ps(x)}; }
  static F load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p)}; }
  static F load_f16(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
  static F load_bf16(const void* p) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_n(float* p, int n) const { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), v); }
  void store_f16(void* p) const {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm512_abs_ps(a.v)}; }
inline F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
inline float sum(F a) { return _mm512_reduce_add_ps(a.v); }
inline float max(F a) { return _mm512_reduce_max_ps(a.v); }
inline float min(F a) { return _mm512_reduce_min_ps(a.v); }

struct I {  // 16 int32
  __m512i v;
  static I set(int32_t x) { return {_mm512_set1_epi32(x)}; }
  static I load_i8(const void* p) { return {_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))}; }
  static I load_u8(const void* p) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
  void store_i8(void* p) const { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(v)); }
};
inline I operator+(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I operator&(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I operator|(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
inline I max(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
template <int N> I shift_left(I a) { return {_mm512_slli_epi32(a.v, N)}; }
template <int N> I shift_right(I a) { return {_mm512_srai_epi32(a.v, N)}; }
inline F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline I to_int(F a) { return {_mm512_cvtps_epi32(a.v)}; }  // nearest, ties to even
inline int32_t sum(I a) { return _mm512_reduce_add_epi32(a.v); }
inline F bits_to_float(I a) { return {_mm512_castsi512_ps(a.v)}; }
inline I float_to_bits(F a) { return {_mm512_castps_si512(a.v)}; }
inline I truncate(F a) { return {_mm512_cvttps_epi32(a.v)}; }

// Lane i of vector j becomes lane j of vector i.
inline void transpose(F (&x)[16]) {
  __m512 t[16], u[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(x[i].v, x[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + 2 + j]);
      u[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      u[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  for (int i = 0; i < 4; ++i) {  // u[4 k + i] has columns i, i + 4, i + 8, i + 12 of rows 4 k .. 4 k + 3
    const __m512 a = _mm512_shuffle_f32x4(u[i], u[4 + i], 0x88), b = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0x88);
    const __m512 c = _mm512_shuffle_f32x4(u[i], u[4 + i], 0xdd), d = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0xdd);
    x[i].v = _mm512_shuffle_f32x4(a, b, 0x88);
    x[i + 8].v = _mm512_shuffle_f32x4(a, b, 0xdd);
    x[i + 4].v = _mm512_shuffle_f32x4(c, d, 0x88);
    x[i + 12].v = _mm512_shuffle_f32x4(c, d, 0xdd);
  }
}

// A choice for each lane. Comparisons with a NaN are false.
struct M {
  __mmask16 v;
};
inline M less(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline M at_most(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline M equal(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline M operator&(M a, M b) { return {__mmask16(a.v & b.v)}; }
inline M operator|(M a, M b) { return {__mmask16(a.v | b.v)}; }
inline M operator!(M a) { return {__mmask16(~a.v)}; }
inline bool any(M a) { return a.v != 0; }
inline F select(M m, F yes, F no) { return {_mm512_mask_blend_ps(m.v, no.v, yes.v)}; }

struct B {  // 64 bytes: 16 rows of 4 weights
  __m512i v;
  static constexpr int rows = 16;
  static B load(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  static B set(uint8_t x) { return {_mm512_set1_epi8((char)x)}; }
};
inline B operator&(B a, B b) { return {_mm512_and_si512(a.v, b.v)}; }
inline B operator|(B a, B b) { return {_mm512_or_si512(a.v, b.v)}; }
inline B operator-(B a, B b) { return {_mm512_sub_epi8(a.v, b.v)}; }
// Shifts cross from byte to byte: mask afterwards.
template <int N> B shift_left(B a) { return {_mm512_slli_epi32(a.v, N)}; }
template <int N> B shift_right(B a) { return {_mm512_srli_epi32(a.v, N)}; }
inline I lanes(B a) { return {a.v}; }

// A sum times an offset, in every lane. The shift is a vector's: the broadcast then comes from memory, for nothing.
template <int offset> inline __m512i times_offset(int32_t neg_sum) {
  static_assert((offset & (offset - 1)) == 0);
  if constexpr (offset == 0) return _mm512_setzero_si512();
  else return _mm512_slli_epi32(_mm512_set1_epi32(neg_sum), __builtin_ctz(offset));
}

// The sum of n vectors of 4-element products with 4 n activations, plus neg_sum * offset. `bits` bounds the weights,
// which are unsigned below 8 bits and signed at 8.
template <int bits, int offset, int n> inline I dot(const B* w, const int8_t* y, int32_t neg_sum) {
#ifdef __AVX512VNNI__
  // in assembly, because GCC 12 loads the four activations into a register first: a fifth of the instructions
  const __m512i sign = _mm512_set1_epi8(bits == 8 ? (char)0x80 : 0);
  __m512i acc = times_offset<bits == 8 ? 128 : offset>(neg_sum);
  for (int i = 0; i < n; ++i) {
    const __m512i u = bits == 8 ? _mm512_xor_si512(w[i].v, sign) : w[i].v;
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(u), "m"(reinterpret_cast<const int32_t*>(y)[i]));
  }
  return {acc};
#else
  const auto four = [y](int i) { return _mm512_set1_epi32(reinterpret_cast<const int32_t*>(y)[i]); };
  // pairs of products are summed in 16 bits as long as they cannot overflow: 2 * 127 * (2^bits - 1) each
  constexpr int depth = bits == 8 ? 1 : bits == 6 ? 2 : bits == 5 ? 4 : 8;
  const __m512i ones = _mm512_set1_epi16(1);
  __m512i acc = times_offset<bits == 8 ? 0 : offset>(neg_sum);
  for (int i = 0; i < n; i += depth) {
    __m512i pairs = _mm512_setzero_si512();
    for (int j = i; j < i + depth && j < n; ++j) {
      __m512i x = four(j), u = w[j].v;
      if (bits == 8) {  // |w| * (sign(w) x)
        x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(u), _mm512_setzero_si512(), x);
        u = _mm512_abs_epi8(u);
      }
      pairs = j == i ? _mm512_maddubs_epi16(u, x) : _mm512_add_epi16(pairs, _mm512_maddubs_epi16(u, x));
    }
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, ones));
  }
  return {acc};
#endif
}

inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }

}  // namespace apr::APR_ISA
