#pragma once

#include <cstdint>

namespace mobalab::sim {

/// Trials [begin, end).
struct TrialRange {
    std::uint64_t begin;
    std::uint64_t end;
};

}  // namespace mobalab::sim
