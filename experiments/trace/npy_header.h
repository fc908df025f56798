#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mobalab::experiments {

/// What stands before the numbers of a .npy file (numpy's NEP 1).
struct NpyHeader {
    std::string descr;  ///< type: "<f4", "<u2", "<U512"
    bool fortran_order = false;
    std::vector<std::int64_t> shape;
};

/// First bytes of a .npy file, which say how long its header is.
inline constexpr std::size_t npy_start_bytes = 12;
inline constexpr std::int64_t most_npy_header_bytes = 1 << 16;

/// Where the header begins (10 or 12) and ends. Throws std::runtime_error without the file's name: no .npy file,
/// another version than 1 to 3, a header above most_npy_header_bytes.
struct NpyHeaderPlace {
    std::int64_t begin;
    std::int64_t end;
};
NpyHeaderPlace npy_header_place(std::string_view start);

/// The header's text: a literal of a Python dict. Throws std::runtime_error, also for records and pickled objects.
NpyHeader parse_npy_header(std::string_view text);

}  // namespace mobalab::experiments
