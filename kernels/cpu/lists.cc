#include "kernels/cpu/lists.h"

namespace mobalab::kernels::cpu {

BlockLists block_lists(const Sequence& sequence, const std::int32_t* selection, std::int64_t routed,
                       std::int64_t first_row, std::int64_t last_row) {
    BlockLists lists;
    lists.begin.assign(static_cast<std::size_t>(sequence.blocks + 1), 0);
    const std::int32_t* first = selection + first_row * routed;
    const std::int32_t* last = selection + last_row * routed;
    for (const std::int32_t* block = first; block != last; ++block) {
        if (*block >= 0) ++lists.begin[static_cast<std::size_t>(*block) + 1];
    }
    for (std::size_t b = 1; b < lists.begin.size(); ++b) lists.begin[b] += lists.begin[b - 1];
    lists.rows.resize(static_cast<std::size_t>(lists.begin.back()));
    std::vector<std::int64_t> next(lists.begin);
    for (std::int64_t row = first_row; row < last_row; ++row) {
        for (std::int64_t slot = 0; slot < routed; ++slot) {
            const std::int32_t block = selection[row * routed + slot];
            if (block < 0) continue;
            lists.rows[static_cast<std::size_t>(next[static_cast<std::size_t>(block)]++)] =
                static_cast<std::int32_t>(row);
        }
    }
    return lists;
}

}  // namespace mobalab::kernels::cpu
