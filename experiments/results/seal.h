#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mobalab::experiments {

// A line behind the last byte of a file that says what all bytes before it must be:
//
//     \nmobalab seal <UUID version 5 (SHA-1) of the bytes before this line>\n
//
// A damaged file is so recognised before the HDF5 library, which can crash on one, sees a byte of it. HDF5 itself does
// not look behind the end it knows of.

/// `bytes` with their seal behind them.
std::vector<char> sealed(std::vector<char> bytes);

/// Takes the seal off. Throws std::runtime_error when there is none or it is not that of the bytes.
std::vector<char> unsealed(std::vector<char> bytes);

/// Bytes of a seal, and whether so many at the end of a file are one, of whatever bytes.
extern const std::size_t seal_bytes;
bool is_seal(std::string_view end);

}  // namespace mobalab::experiments
