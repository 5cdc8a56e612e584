// Weights as the kernels read them, and embedding tables as the file has them.
#pragma once

#include <memory>
#include <string>

#include "codec.h"
#include "kernels.h"
#include "memory.h"

namespace apr {

// Raises std::invalid_argument for a codec without a kernel, listing those that have one.
Codec codec_of(const std::string& name);

// Bytes of one row in a file. Raises std::invalid_argument if columns is not positive or no multiple of the block.
int64_t row_bytes(Codec codec, int64_t columns);

// Bytes that others own: a view of a file, and what keeps it alive.
struct Raw {
  const uint8_t* data;
  int64_t n_bytes;
  std::shared_ptr<const void> owner;  // may be null for the time of a call
};

class Weight {
 public:
  // Zeros until filled. Raises std::invalid_argument as row_bytes does, and for rows below 1; std::bad_alloc.
  Weight(Codec codec, int64_t rows, int64_t columns);
  // Row-major, read where it lies. Raises std::invalid_argument for a block codec or a wrong number of bytes.
  Weight(Codec codec, int64_t rows, int64_t columns, Raw raw);

  const Matrix& matrix() const { return matrix_; }
  int64_t n_bytes() const { return n_bytes_; }
  int64_t n_row_blocks() const { return (matrix_.rows + kRowsPerBlock - 1) / kRowsPerBlock; }
  // Of a row block, as it is read: for block codecs and plain rows alike.
  int64_t row_block_bytes() const;

  // Copies rows [first_row, first_row + n_rows) out of a tensor's bytes, re-laid for block codecs; row_order[i] is the
  // tensor's row for row i, null if they are in order. Threads may fill different rows at the same time.
  // Raises std::invalid_argument for rows that do not begin and end with a row block, or lie outside the tensor.
  void fill(const Raw& raw, int64_t first_row, int64_t n_rows, const int64_t* row_order);

  // Row `row` as floats, out[columns], as a product with unit vectors finds it: only for tests.
  void decode(int64_t row, float* out) const;

 private:
  Matrix matrix_;
  int64_t n_bytes_ = 0;
  Memory memory_;     // null if the weight is read in place
  Raw raw_{};
};

class Table {
 public:
  // Raises std::invalid_argument as row_bytes does, and for a wrong number of bytes.
  Table(Codec codec, int64_t rows, int64_t columns, Raw raw);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  void decode(int64_t row, float* out) const;

 private:
  Codec codec_;
  int64_t rows_, columns_, row_bytes_;
  Raw raw_;
};

}  // namespace apr
