#include "experiments/predict/routed_scores.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "experiments/predict/row_scores.h"

namespace mobalab::experiments {
namespace {

/// Candidates in the order in which they are routed.
std::vector<std::size_t> ranked_blocks(const RowScores& row, const RouteSetting& setting) {
    const auto size = static_cast<std::size_t>(setting.score.block_size);
    const std::size_t candidates = static_cast<std::size_t>(row.position) / size;
    std::vector<double> sums(candidates, 0.0);
    for (std::size_t j = 0; j < candidates; ++j) {
        sums[j] = std::accumulate(row.x.begin() + static_cast<std::ptrdiff_t>(j * size),
                                  row.x.begin() + static_cast<std::ptrdiff_t>((j + 1) * size), 0.0);
    }
    std::vector<std::size_t> blocks(candidates);
    std::iota(blocks.begin(), blocks.end(), 0);
    const auto better = [&](std::size_t a, std::size_t b) { return sums[a] != sums[b] ? sums[a] > sums[b] : a > b; };
    std::sort(blocks.begin() + (setting.keep_first && candidates > 0 ? 1 : 0), blocks.end(), better);
    return blocks;
}

struct Sums {
    double hits = 0.0, needles = 0.0, recall = 0.0, rows = 0.0;
    bool keeps_all = true;
};

void add_row(const RowScores& row, const RouteSetting& setting, Sums& sums) {
    const auto size = static_cast<std::size_t>(setting.score.block_size);
    const std::vector<std::size_t> blocks = ranked_blocks(row, setting);
    const std::size_t slots = std::min(blocks.size(), static_cast<std::size_t>(setting.topk - 1));
    const double past = row.mass_before[blocks.size() * size];
    if (blocks.empty() || !(past > 0.0)) return;
    sums.keeps_all = sums.keeps_all && slots == blocks.size();
    double routed = 0.0;
    for (std::size_t i = 0; i < slots; ++i) {
        routed += row.mass_before[(blocks[i] + 1) * size] - row.mass_before[blocks[i] * size];
    }
    sums.recall += routed / past;
    sums.rows += 1.0;
    const std::int64_t needle = blocks.size() < 3 ? -1 : row.highest[(blocks.size() - 2) * size];
    if (needle < 0) return;
    const auto kept = blocks.begin() + static_cast<std::ptrdiff_t>(slots);
    sums.hits += std::find(blocks.begin(), kept, static_cast<std::size_t>(needle) / size) != kept ? 1.0 : 0.0;
    sums.needles += 1.0;
}

}  // namespace

std::vector<RoutedShares> routed_shares(const HeadScores& scores, std::span<const RouteSetting> settings) {
    std::vector<Sums> sums(settings.size());
    RowScores row;
    for (std::size_t r = 0; r < scores.positions.size(); ++r) {
        if (!read_row(scores, r, row)) continue;
        for (std::size_t i = 0; i < settings.size(); ++i) add_row(row, settings[i], sums[i]);
    }
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    std::vector<RoutedShares> shares;
    for (const Sums& sum : sums) {
        shares.push_back({sum.needles > 0.0 ? sum.hits / sum.needles : none,
                          sum.rows > 0.0 ? sum.recall / sum.rows : none, sum.keeps_all});
    }
    return shares;
}

}  // namespace mobalab::experiments
