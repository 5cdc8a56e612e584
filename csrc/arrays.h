// NumPy arrays at the door: checked for what the kernels read, with an error that names the argument.
//
// Arguments are taken as any array and checked here, because a typed nanobind argument converts other dtypes in
// silence, and says of one that it cannot convert only that no overload fits.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

namespace apr {

namespace nb = nanobind;

using AnyArray = nb::ndarray<nb::ro>;

inline std::string dtype_name(nb::dlpack::dtype dtype) {
  const auto code = nb::dlpack::dtype_code(dtype.code);
  const char* kind = code == nb::dlpack::dtype_code::Int     ? "int"
                     : code == nb::dlpack::dtype_code::UInt  ? "uint"
                     : code == nb::dlpack::dtype_code::Float ? "float"
                     : code == nb::dlpack::dtype_code::Bool  ? "bool"
                                                             : "dtype code ";
  return kind + std::to_string(dtype.bits);
}

// The array's elements. Raises std::invalid_argument unless it is a C-contiguous array of T in ordinary memory.
template <class T> const T* elements(const AnyArray& array, const char* name) {
  if (array.dtype() != nb::dtype<T>())
    throw std::invalid_argument(std::string(name) + " is " + dtype_name(array.dtype()) + ", expected " +
                                dtype_name(nb::dtype<T>()));
  if (array.device_type() != nb::device::cpu::value)
    throw std::invalid_argument(std::string(name) + " is not in the CPU's memory");
  int64_t expected = 1;
  for (size_t i = array.ndim(); i-- > 0; expected *= int64_t(array.shape(i)))
    if (array.shape(i) > 1 && array.stride(i) != expected)
      throw std::invalid_argument(std::string(name) + " is not C-contiguous, see numpy.ascontiguousarray");
  return static_cast<const T*>(array.data());
}

inline std::string shape_text(const AnyArray& array) {
  std::string text = "[";
  for (size_t i = 0; i < array.ndim(); ++i) text += (i ? ", " : "") + std::to_string(array.shape(i));
  return text + "]";
}

// The same for an array of this shape; a size of -1 may be any.
template <class T>
const T* elements(const AnyArray& array, const char* name, std::initializer_list<int64_t> shape) {
  bool fits = array.ndim() == shape.size();
  std::string expected;
  size_t i = 0;
  for (const int64_t size : shape) {
    fits = fits && (size < 0 || int64_t(array.shape(i)) == size);
    expected += (i++ ? ", " : "") + (size < 0 ? std::string("any") : std::to_string(size));
  }
  if (!fits)
    throw std::invalid_argument(std::string(name) + " is " + shape_text(array) + ", expected [" + expected + "]");
  return elements<T>(array, name);
}

inline std::vector<size_t> shape_of(const AnyArray& array) {
  std::vector<size_t> shape(array.ndim());
  for (size_t i = 0; i < shape.size(); ++i) shape[i] = array.shape(i);
  return shape;
}

template <class T> using NewArray = nb::ndarray<nb::numpy, T, nb::c_contig>;

// An array of this shape, not initialised.
template <class T> NewArray<T> new_array(const std::vector<size_t>& shape) {
  size_t size = 1;
  for (const size_t n : shape) size *= n;
  auto* data = new T[size];
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return NewArray<T>(data, shape.size(), shape.data(), owner);
}

}  // namespace apr
