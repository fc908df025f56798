#include "kernels/cpu/lists.h"

#include <algorithm>
#include <utility>

namespace mobalab::kernels::cpu {

BlockLists block_lists(const Sequence& sequence, const std::int32_t* selection, std::int64_t routed,
                       std::int64_t first_row, std::int64_t last_row) {
    BlockLists lists;
    lists.begin.assign(static_cast<std::size_t>(sequence.blocks + 1), 0);
    std::vector<std::int64_t> last(static_cast<std::size_t>(sequence.blocks), -1);  // row that named each block
    const auto for_each_named = [&](const auto& visit) {
        std::fill(last.begin(), last.end(), -1);
        for (std::int64_t row = first_row; row < last_row; ++row) {
            const std::int64_t candidates = sequence.candidates(row);
            for (std::int64_t slot = 0; slot < routed; ++slot) {
                const std::int32_t block = selection[row * routed + slot];
                if (block < 0 || block >= candidates) continue;
                const auto b = static_cast<std::size_t>(block);
                if (std::exchange(last[b], row) != row) visit(b, row);
            }
        }
    };
    for_each_named([&](std::size_t block, std::int64_t) { ++lists.begin[block + 1]; });
    for (std::size_t b = 1; b < lists.begin.size(); ++b) lists.begin[b] += lists.begin[b - 1];
    lists.rows.resize(static_cast<std::size_t>(lists.begin.back()));
    std::vector<std::int64_t> next(lists.begin);
    for_each_named([&](std::size_t block, std::int64_t row) {
        lists.rows[static_cast<std::size_t>(next[block]++)] = static_cast<std::int32_t>(row);
    });
    return lists;
}

}  // namespace mobalab::kernels::cpu
