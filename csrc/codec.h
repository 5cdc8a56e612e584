// Sizes of the codecs: in a file, and in the row blocks that the kernels read (quants/).
//
// Everything here is static, so that each source has its own copy: it is included by sources that are compiled for
// different instruction sets, of which the linker would keep only one.
#pragma once

#include "kernels.h"

namespace apr {

static constexpr int kCodecs = 13;

struct CodecSizes {
  const char* name;
  int64_t columns;     // that are coded together
  int64_t file_bytes;  // of one such unit of one row
  int64_t unit_bytes;  // of one such unit of a row block; f16, bf16 and f32 have none, they stay as in the file
};

static constexpr CodecSizes kCodecSizes[kCodecs] = {
    {"q4_0", 32, 18, 288},   {"q4_1", 32, 20, 320},    {"q5_0", 32, 22, 352},    {"q5_1", 32, 24, 384},
    {"q8_0", 32, 34, 544},   {"q2_k", 256, 84, 1344},  {"q3_k", 256, 110, 1824}, {"q4_k", 256, 144, 2368},
    {"q5_k", 256, 176, 2880}, {"q6_k", 256, 210, 3360}, {"f16", 1, 2, 0},         {"bf16", 1, 2, 0},
    {"f32", 1, 4, 0},
};

static constexpr const CodecSizes& sizes(Codec codec) { return kCodecSizes[int(codec)]; }
static constexpr bool is_block_codec(Codec codec) { return sizes(codec).unit_bytes > 0; }
static constexpr int64_t unit_columns(Codec codec) { return sizes(codec).columns; }
static constexpr int64_t unit_bytes(Codec codec) { return sizes(codec).unit_bytes; }

}  // namespace apr
