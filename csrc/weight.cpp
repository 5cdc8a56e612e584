#include "weight.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "cpu.h"

namespace apr {
namespace {

constexpr int64_t kMostRows = int64_t(1) << 28, kMostColumns = int64_t(1) << 28;  // their bytes stay below 2^63

std::string shape(int64_t rows, int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

void check_rows(int64_t rows) {
  if (rows < 1 || rows > kMostRows)
    throw std::invalid_argument(std::to_string(rows) + " rows, expected 1 to " + std::to_string(kMostRows));
}

void check_bytes(const Raw& raw, Codec codec, int64_t rows, int64_t columns) {
  const int64_t expected = rows * row_bytes(codec, columns);
  if (raw.n_bytes != expected)
    throw std::invalid_argument(std::to_string(raw.n_bytes) + " bytes for a " + sizes(codec).name + " tensor " +
                                shape(rows, columns) + ", expected " + std::to_string(expected));
}

}  // namespace

Codec codec_of(const std::string& name) {
  std::string names;
  for (int i = 0; i < kCodecs; ++i) {
    if (name == kCodecSizes[i].name) return Codec(i);
    names += std::string(i ? ", " : "") + kCodecSizes[i].name;
  }
  throw std::invalid_argument("codec '" + name + "' has no kernel, expected one of " + names);
}

int64_t row_bytes(Codec codec, int64_t columns) {
  if (columns < 1 || columns > kMostColumns || columns % unit_columns(codec) != 0)
    throw std::invalid_argument(std::to_string(columns) + " columns, " + sizes(codec).name +
                                " expects a positive multiple of " + std::to_string(unit_columns(codec)));
  return columns / unit_columns(codec) * sizes(codec).file_bytes;
}

Weight::Weight(Codec codec, int64_t rows, int64_t columns) : matrix_{codec, rows, columns, nullptr, 0} {
  check_rows(rows);
  const int64_t bytes = row_bytes(codec, columns);
  if (is_block_codec(codec)) {
    matrix_.row_block_bytes = columns / unit_columns(codec) * unit_bytes(codec);
    n_bytes_ = n_row_blocks() * matrix_.row_block_bytes;
  } else {
    n_bytes_ = rows * bytes;
  }
  memory_ = allocate_beside(size_t(n_bytes_));
  matrix_.data = memory_.get();
}

Weight::Weight(Codec codec, int64_t rows, int64_t columns, Raw raw)
    : matrix_{codec, rows, columns, raw.data, 0}, raw_(std::move(raw)) {
  check_rows(rows);
  check_bytes(raw_, codec, rows, columns);
  if (is_block_codec(codec))
    throw std::invalid_argument(std::string(sizes(codec).name) + " is re-laid, it cannot be read in place");
}

int64_t Weight::row_block_bytes() const {
  return is_block_codec(matrix_.codec) ? matrix_.row_block_bytes
                                       : kRowsPerBlock * matrix_.columns * sizes(matrix_.codec).file_bytes;
}

void Weight::fill(const Raw& raw, int64_t first_row, int64_t n_rows, const int64_t* row_order) {
  if (!memory_) throw std::invalid_argument("a weight that is read in place cannot be filled");
  const int64_t bytes = row_bytes(matrix_.codec, matrix_.columns);
  const int64_t rows_left = first_row < 0 ? -1 : matrix_.rows - first_row;
  if (first_row % kRowsPerBlock != 0 || n_rows < 0 || n_rows > rows_left ||
      (n_rows % kRowsPerBlock != 0 && n_rows != rows_left))
    throw std::invalid_argument(std::to_string(n_rows) + " rows from " + std::to_string(first_row) + " on, of " +
                                std::to_string(matrix_.rows) + ": they must begin at a multiple of 16, and end at one "
                                "or at the last row");
  const int64_t end = first_row + n_rows;
  if (row_order) {
    const int64_t rows_in_file = raw.n_bytes / bytes;
    for (int64_t row = first_row; row < end; ++row)
      if (row_order[row] < 0 || row_order[row] >= rows_in_file)
        throw std::invalid_argument("row_order[" + std::to_string(row) + "] is " + std::to_string(row_order[row]) +
                                    ", the tensor has " + std::to_string(rows_in_file) + " rows");
  } else {
    check_bytes(raw, matrix_.codec, matrix_.rows, matrix_.columns);
  }
  const auto source = [&](int64_t row) { return raw.data + (row_order ? row_order[row] : row) * bytes; };
  if (!is_block_codec(matrix_.codec)) {
    for (int64_t row = first_row; row < end; ++row)
      std::memcpy(memory_.get() + row * bytes, source(row), size_t(bytes));
    return;
  }
  for (int64_t row = first_row; row < end; row += kRowsPerBlock) {
    const uint8_t* rows[kRowsPerBlock];
    for (int i = 0; i < kRowsPerBlock; ++i) rows[i] = row + i < end ? source(row + i) : nullptr;
    kernels().pack(matrix_.codec, rows, matrix_.columns,
                   memory_.get() + row / kRowsPerBlock * matrix_.row_block_bytes);
  }
}

void Weight::decode(int64_t row, float* out) const {
  const Matrix& m = matrix_;
  if (!is_block_codec(m.codec)) {
    const int64_t bytes = row_bytes(m.codec, m.columns);
    kernels().decode_row(m.codec, m.data + row * bytes, m.columns, out);
    return;
  }
  // a tile of unit vectors at a time, through the exact product of the row's block
  const int64_t n_blocks = m.columns / kBlock, block = row / kRowsPerBlock;
  std::vector<float> x(size_t(m.columns)), products(size_t(kMaxTile * m.rows));
  std::vector<FloatBlock> tile(size_t(n_blocks * kMaxTile));
  for (int64_t first = 0; first < m.columns; first += kMaxTile) {
    for (int i = 0; i < kMaxTile; ++i) {
      x[size_t(first + i)] = 1.0f;
      kernels().arrange(x.data(), m.columns, tile.data() + i, kMaxTile);
      x[size_t(first + i)] = 0.0f;
    }
    const Input input{kMaxTile, m.columns, nullptr, tile.data(), nullptr, 0};
    kernels().linear(m, input, nullptr, products.data(), m.rows, block, block + 1);
    for (int i = 0; i < kMaxTile; ++i) out[first + i] = products[size_t(i * m.rows + row)];
  }
}

Table::Table(Codec codec, int64_t rows, int64_t columns, Raw raw)
    : codec_(codec), rows_(rows), columns_(columns), row_bytes_(row_bytes(codec, columns)), raw_(std::move(raw)) {
  check_rows(rows);
  check_bytes(raw_, codec, rows, columns);
}

void Table::decode(int64_t row, float* out) const {
  kernels().decode_row(codec_, raw_.data + row * row_bytes_, columns_, out);
}

}  // namespace apr
