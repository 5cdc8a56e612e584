// Vectors of 8 lanes: AVX2, FMA, F16C, with or without AVX-VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace apr::APR_ISA {

inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

struct F {  // 8 float32
  __m256 v;
  static constexpr int lanes = 8;
  static F zero() { return {_mm256_setzero_ps()}; }
  static F set(float x) { return {_mm256_set1_ps(x)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static F load_n(const float* p, int n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
  static F load_f16(const void* p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p))}; }
  static F load_bf16(const void* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_n(float* p, int n) const { _mm256_maskstore_ps(p, first_lanes(n), v); }
  void store_f16(void* p) const {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
};
inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
inline F sqrt(F a) { return {_mm256_sqrt_ps(a.v)}; }
inline float sum(F a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float max(F a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline float min(F a) {
  __m128 x = _mm_min_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  x = _mm_min_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_min_ss(x, _mm_movehdup_ps(x)));
}

struct I {  // 8 int32
  __m256i v;
  static I set(int32_t x) { return {_mm256_set1_epi32(x)}; }
  static I load_i8(const void* p) { return {_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))}; }
  static I load_u8(const void* p) { return {_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))}; }
  void store(int32_t* p) const { _mm256_storeu_si256((__m256i*)p, v); }
  void store_i8(void* p) const {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(words, words));
  }
};
inline I operator+(I a, I b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline I operator-(I a, I b) { return {_mm256_sub_epi32(a.v, b.v)}; }
inline I operator&(I a, I b) { return {_mm256_and_si256(a.v, b.v)}; }
inline I operator|(I a, I b) { return {_mm256_or_si256(a.v, b.v)}; }
inline I max(I a, I b) { return {_mm256_max_epi32(a.v, b.v)}; }
template <int N> I shift_left(I a) { return {_mm256_slli_epi32(a.v, N)}; }
template <int N> I shift_right(I a) { return {_mm256_srai_epi32(a.v, N)}; }
inline F to_float(I a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline I to_int(F a) { return {_mm256_cvtps_epi32(a.v)}; }  // nearest, ties to even
inline int32_t sum(I a) {
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  x = _mm_add_epi32(x, _mm_unpackhi_epi64(x, x));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 1)));
}
inline F bits_to_float(I a) { return {_mm256_castsi256_ps(a.v)}; }
inline I float_to_bits(F a) { return {_mm256_castps_si256(a.v)}; }
inline I truncate(F a) { return {_mm256_cvttps_epi32(a.v)}; }

// Lane i of vector j becomes lane j of vector i.
inline void transpose(F (&x)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(x[i].v, x[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(x[i].v, x[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      const __m256d a = _mm256_castps_pd(t[i + j]), b = _mm256_castps_pd(t[i + 2 + j]);
      u[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
      u[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    }
  for (int i = 0; i < 4; ++i) {  // u[4 k + i] has columns i and i + 4 of rows 4 k .. 4 k + 3
    x[i].v = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    x[i + 4].v = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

// A choice for each lane. Comparisons with a NaN are false.
struct M {
  __m256 v;
};
inline M less(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline M at_most(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
inline M equal(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
inline M operator&(M a, M b) { return {_mm256_and_ps(a.v, b.v)}; }
inline M operator|(M a, M b) { return {_mm256_or_ps(a.v, b.v)}; }
inline M operator!(M a) { return {_mm256_xor_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
inline bool any(M a) { return _mm256_movemask_ps(a.v) != 0; }
inline F select(M m, F yes, F no) { return {_mm256_blendv_ps(no.v, yes.v, m.v)}; }

struct B {  // 32 bytes: 8 rows of 4 weights
  __m256i v;
  static constexpr int rows = 8;
  static B load(const uint8_t* p) { return {_mm256_loadu_si256((const __m256i*)p)}; }
  static B set(uint8_t x) { return {_mm256_set1_epi8((char)x)}; }
};
inline B operator&(B a, B b) { return {_mm256_and_si256(a.v, b.v)}; }
inline B operator|(B a, B b) { return {_mm256_or_si256(a.v, b.v)}; }
inline B operator-(B a, B b) { return {_mm256_sub_epi8(a.v, b.v)}; }
// Shifts cross from byte to byte: mask afterwards.
template <int N> B shift_left(B a) { return {_mm256_slli_epi32(a.v, N)}; }
template <int N> B shift_right(B a) { return {_mm256_srli_epi32(a.v, N)}; }
inline I lanes(B a) { return {a.v}; }

// A sum times an offset, in every lane. The shift is a vector's: the broadcast then comes from memory, for nothing.
template <int offset> inline __m256i times_offset(int32_t neg_sum) {
  static_assert((offset & (offset - 1)) == 0);
  if constexpr (offset == 0) return _mm256_setzero_si256();
  else return _mm256_slli_epi32(_mm256_set1_epi32(neg_sum), __builtin_ctz(offset));
}

// The sum of n vectors of 4-element products with 4 n activations, plus neg_sum * offset. `bits` bounds the weights,
// which are unsigned below 8 bits and signed at 8.
template <int bits, int offset, int n> inline I dot(const B* w, const int8_t* y, int32_t neg_sum) {
  const auto four = [y](int i) { return _mm256_set1_epi32(reinterpret_cast<const int32_t*>(y)[i]); };
#ifdef __AVXVNNI__
  const __m256i sign = _mm256_set1_epi8(bits == 8 ? (char)0x80 : 0);
  __m256i acc = times_offset<bits == 8 ? 128 : offset>(neg_sum);
  for (int i = 0; i < n; ++i)
    acc = _mm256_dpbusd_avx_epi32(acc, bits == 8 ? _mm256_xor_si256(w[i].v, sign) : w[i].v, four(i));
  return {acc};
#else
  // pairs of products are summed in 16 bits as long as they cannot overflow: 2 * 127 * (2^bits - 1) each
  constexpr int depth = bits == 8 ? 1 : bits == 6 ? 2 : bits == 5 ? 4 : 8;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc = times_offset<bits == 8 ? 0 : offset>(neg_sum);
  for (int i = 0; i < n; i += depth) {
    __m256i pairs = _mm256_setzero_si256();
    for (int j = i; j < i + depth && j < n; ++j) {
      __m256i x = four(j), u = w[j].v;
      if (bits == 8) {  // |w| * (sign(w) x)
        x = _mm256_sign_epi8(x, u);
        u = _mm256_abs_epi8(u);
      }
      pairs = j == i ? _mm256_maddubs_epi16(u, x) : _mm256_add_epi16(pairs, _mm256_maddubs_epi16(u, x));
    }
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, ones));
  }
  return {acc};
#endif
}

inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }

}  // namespace apr::APR_ISA
