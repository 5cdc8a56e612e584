#include "cpu.h"

#include <atomic>
#include <initializer_list>
#include <stdexcept>
#include <vector>

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace apr {

// The build compiles the table for what its compiler can target, and says so: APR_HAS_<ISA>.
namespace avx512vnni { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avxvnni { extern const Kernels table; }
namespace avx2 { extern const Kernels table; }
namespace neon { extern const Kernels table; }
namespace portable { extern const Kernels table; }

namespace {

struct Features {
  bool avx2 = false, avx512 = false, avx_vnni = false, avx512_vnni = false, dot_product = false;
};

#if defined(__x86_64__) || defined(_M_X64)
struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuid(out, 0);
  if (uint32_t(out[0]) < leaf) return r;
  __cpuidex(out, int(leaf), int(subleaf));
  r = {uint32_t(out[0]), uint32_t(out[1]), uint32_t(out[2]), uint32_t(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);  // leaves r as it is if there is no such leaf
#endif
  return r;
}

// The registers that the operating system saves when it switches threads: without it the CPU's own word means nothing.
uint64_t saved_state() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
#endif
}

bool has(uint32_t word, std::initializer_list<int> bits) {
  for (const int bit : bits)
    if (!(word >> bit & 1)) return false;
  return true;
}

// Bit numbers: Intel's manual, volume 2A, CPUID.
Features detect() {
  Features f;
  const uint32_t basic = cpuid(1, 0).c;
  if (!has(basic, {27})) return f;  // OSXSAVE: saved_state() may be asked
  const uint64_t saved = saved_state();
  const bool saves_256 = (saved & 0x06) == 0x06, saves_512 = (saved & 0xe6) == 0xe6;
  const Registers extended = cpuid(7, 0);
  const uint32_t more = extended.a >= 1 ? cpuid(7, 1).a : 0;
  f.avx2 = saves_256 && has(basic, {12, 28, 29}) && has(extended.b, {5, 8});  // FMA AVX F16C, AVX2 BMI2
  f.avx_vnni = f.avx2 && has(more, {4});
  f.avx512 = f.avx2 && saves_512 && has(extended.b, {16, 17, 30, 31});  // F DQ BW VL
  f.avx512_vnni = f.avx512 && has(extended.c, {11});
  return f;
}
#elif defined(__aarch64__)
Features detect() {
  Features f;
#if defined(__linux__)
  f.dot_product = getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP, which old headers lack
#else
  f.dot_product = true;  // every Apple CPU with this instruction set has it
#endif
  return f;
}
#else
Features detect() { return {}; }
#endif

std::vector<const Kernels*> find_tables() {
  const Features f = detect();
  (void)f;
  std::vector<const Kernels*> tables;
#if defined(APR_HAS_AVX512VNNI)
  if (f.avx512_vnni) tables.push_back(&avx512vnni::table);
#endif
#if defined(APR_HAS_AVX512)
  if (f.avx512) tables.push_back(&avx512::table);
#endif
#if defined(APR_HAS_AVXVNNI)
  if (f.avx_vnni) tables.push_back(&avxvnni::table);
#endif
#if defined(APR_HAS_AVX2)
  if (f.avx2) tables.push_back(&avx2::table);
#endif
#if defined(APR_HAS_NEON)
  if (f.dot_product) tables.push_back(&neon::table);
#endif
  tables.push_back(&portable::table);
  tables.push_back(nullptr);
  return tables;
}

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> table{available_kernels()[0]};
  return table;
}

}  // namespace

const Kernels* const* available_kernels() {
  static const std::vector<const Kernels*> tables = find_tables();
  return tables.data();
}

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

void use_kernels(const std::string& name) {
  std::string names;
  for (const Kernels* const* table = available_kernels(); *table; ++table) {
    if (name == (*table)->name) {
      current().store(*table);
      return;
    }
    names += std::string(names.empty() ? "" : ", ") + (*table)->name;
  }
  throw std::invalid_argument("instruction set '" + name + "', this build on this CPU has " + names);
}

}  // namespace apr
