#include "kernels/cuda/routing/score_windows.h"

#include <algorithm>

namespace mobalab::kernels::cuda {
namespace {

constexpr std::int64_t most_scores = std::int64_t{1} << 26;  // 268 MB
constexpr std::int64_t tile_columns = 128;                   // of ScoreStore

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

}  // namespace

ScoreWindows::ScoreWindows(const Problem& problem, std::int64_t rows_of_item) : item_rows(rows_of_item) {
    pitch = ceil_div(problem.longest_blocks() * problem.scorer.sub_blocks, tile_columns) * tile_columns;
    row_tiles = ceil_div(problem.seqlen_q, item_rows);
    items = problem.batch * problem.heads_q * row_tiles;
    items_of_window = std::clamp<std::int64_t>(most_scores / (item_rows * pitch), 1, std::max<std::int64_t>(items, 1));
}

std::int64_t stored_scores(const Problem& problem) {
    if (problem.scored() <= most_listed_slots || problem.tokens_k() == 0) return 0;
    std::int64_t most = 0;
    for (const std::int64_t rows : {item_rows_of(64), item_rows_of(256)}) {
        most = std::max(most, ScoreWindows(problem, rows).scores());
    }
    return most;
}

}  // namespace mobalab::kernels::cuda
