#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {

/// The selection turned around: for every block the query rows that attend to it, in ascending order.
struct BlockLists {
    std::vector<std::int64_t> begin;  ///< [blocks + 1] into rows
    std::vector<std::int32_t> rows;   ///< rows of the sequence; the routed ones only, own blocks are implied
};

/// Rows [first_row, last_row) of one sequence; `selection` points at the entries of row 0 of the sequence. Each row's
/// entries are a set: what is no candidate of the row is left out, what comes twice counts once.
BlockLists block_lists(const Sequence& sequence, const std::int32_t* selection, std::int64_t routed,
                       std::int64_t first_row, std::int64_t last_row);

}  // namespace mobalab::kernels::cpu
