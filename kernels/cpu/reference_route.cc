// Centroids and routing in double precision.
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reference_rows.h"

namespace mobalab::kernels::reference {
namespace {

constexpr std::int64_t queries_per_task = 64;

double keep(const Problem& problem, double mean) {
    const auto rounded = static_cast<float>(mean);
    return problem.centroids == Centroids::fp32 ? rounded : cpu::round_to(problem.dtype, rounded);
}

/// The best `routed` of `scores`, best first: higher score (NaN before all numbers, -inf not at all), then higher
/// block.
void select_best(const std::vector<double>& scores, std::int64_t routed, std::int32_t* selection, double* best) {
    std::vector<std::int32_t> order;
    for (std::size_t j = 0; j < scores.size(); ++j) {
        if (scores[j] != -std::numeric_limits<double>::infinity()) order.push_back(static_cast<std::int32_t>(j));
    }
    const auto rank = [&](std::int32_t block) {
        const double score = scores[static_cast<std::size_t>(block)];
        return std::tuple(std::isnan(score), std::isnan(score) ? 0.0 : score, block);
    };
    const auto kept = std::min<std::int64_t>(routed, static_cast<std::int64_t>(order.size()));
    std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                      [&](std::int32_t a, std::int32_t b) { return rank(a) > rank(b); });
    for (std::int64_t slot = 0; slot < routed; ++slot) {
        selection[slot] = slot < kept ? order[static_cast<std::size_t>(slot)] : -1;
        best[slot] =
            slot < kept ? scores[static_cast<std::size_t>(selection[slot])] : -std::numeric_limits<double>::infinity();
    }
}

}  // namespace

std::vector<double> centroids(const Problem& p, const Rows& k, int threads) {
    const std::int64_t d = p.head_dim;
    std::vector<double> means(static_cast<std::size_t>(p.blocks() * p.heads_k * d));
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        cpu::parallel_for(s.blocks * p.heads_k, threads, [&](std::int64_t task) {
            const std::int64_t block = task / p.heads_k;
            const std::int64_t head = task % p.heads_k;
            Eigen::VectorXd sum = Eigen::VectorXd::Zero(d);
            Eigen::VectorXd row(d);
            for (std::int64_t i = 0; i < s.block_length(block); ++i) {
                k(s.k_begin + block * p.block_size + i, head, row.data());
                sum += row;
            }
            double* mean = means.data() + ((s.block_begin + block) * p.heads_k + head) * d;
            for (std::int64_t c = 0; c < d; ++c) mean[c] = keep(p, sum[c] / static_cast<double>(s.block_length(block)));
        });
    }
    return means;
}

Routing route(const Problem& p, const Rows& q, const std::vector<double>& centroids, const Options& options) {
    const std::int64_t d = p.head_dim;
    const std::int64_t count = judged_count(p, options);
    const std::int64_t group = p.heads_q / p.heads_k;
    Routing result;
    result.selection.resize(static_cast<std::size_t>(p.heads_q * count * p.routed()));
    result.scores.resize(result.selection.size());
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        const std::vector<Judged> judged = judged_in(s, options);
        const auto rows = static_cast<std::int64_t>(judged.size());
        const std::int64_t chunks = (rows + queries_per_task - 1) / queries_per_task;
        cpu::parallel_for(chunks * p.heads_q, options.threads, [&](std::int64_t task) {
            const std::int64_t head = task / chunks;
            const std::int64_t first = task % chunks * queries_per_task;
            Eigen::VectorXd query(d);
            std::vector<double> scores;
            for (std::int64_t i = first; i < std::min(rows, first + queries_per_task); ++i) {
                const Judged& row = judged[static_cast<std::size_t>(i)];
                q(row.token, head, query.data());
                scores.clear();
                for (std::int64_t block = 0; block < s.own_block(row.row); ++block) {
                    const std::int64_t at = ((s.block_begin + block) * p.heads_k + head / group) * d;
                    scores.push_back(query.dot(Vector(centroids.data() + at, d)));
                }
                const std::int64_t at = (head * count + row.output) * p.routed();
                select_best(scores, p.routed(), result.selection.data() + at, result.scores.data() + at);
            }
        });
    }
    return result;
}

}  // namespace mobalab::kernels::reference
