// GCC 12, at least, tells its optimiser that loading a tile configuration reads 8 of its 64 bytes, and drops the stores
// to the others: llama.cpp's AMX kernels then fault. Included before every file of its build (-include), this lets the
// address escape first, so that all stores are made.
#pragma once
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#define _tile_loadconfig(config) \
  do { \
    const void* tile_configuration_ = (config); \
    __asm__ volatile("" : : "r"(tile_configuration_) : "memory"); \
    (_tile_loadconfig)(tile_configuration_); \
  } while (0)
#endif
