#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace mobalab::experiments {

/// Integers as the bytes of a message between processes of one build.
inline std::string bytes_of(std::span<const std::int64_t> numbers) {
    std::string bytes(numbers.size_bytes(), '\0');
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return bytes;
}

/// Inverse of bytes_of().
inline std::vector<std::int64_t> numbers_of(const std::string& bytes) {
    if (bytes.size() % sizeof(std::int64_t) != 0) {
        throw std::runtime_error("a message between ranks is not whole");
    }
    std::vector<std::int64_t> numbers(bytes.size() / sizeof(std::int64_t));
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    return numbers;
}

}  // namespace mobalab::experiments
