// Summaries of keys and routing in double precision.
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reference_rows.h"
#include "kernels/scorers/hash_score.h"

namespace mobalab::kernels::reference {
namespace {

constexpr std::int64_t queries_per_task = 64;

/// Means that are still to be centred are kept in fp32.
double keep(const Problem& problem, double value) {
    const DataType dtype = problem.centroids == Centroids::centred ? DataType::fp32 : problem.centroid_dtype();
    return cpu::round_to(dtype, static_cast<float>(value));
}

/// Of one sequence: fp32 means, [blocks, heads_k * head_dim], to Centroids::centred. From the last block to block 0,
/// which all others need.
void centre(const Problem& p, std::int64_t blocks, double* means) {
    const std::int64_t row = p.heads_k * p.head_dim;
    for (std::int64_t i = blocks * row - 1; i >= 0; --i) {
        const double reference = means[i % row];
        const auto rest = static_cast<float>(std::isfinite(reference) ? means[i] - reference : means[i]);
        means[i] = cpu::round_to(p.centroid_dtype(), rest);
    }
}

/// Larger or smaller of two numbers; NaN where one is.
double extreme(double a, double b, bool larger) {
    if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
    return larger ? std::max(a, b) : std::min(a, b);
}

/// keys: [count, head_dim], at least one.
void summarise(const Problem& p, const std::vector<double>& keys, Summary summary, double* result) {
    const std::int64_t d = p.head_dim;
    const auto count = static_cast<std::int64_t>(keys.size()) / d;
    for (std::int64_t c = 0; c < d; ++c) {
        double sum = 0.0;
        double best = keys[static_cast<std::size_t>(c)];
        for (std::int64_t i = 0; i < count; ++i) {
            const double key = keys[static_cast<std::size_t>(i * d + c)];
            sum += key;
            best = extreme(best, key, summary == Summary::maximum);
        }
        result[c] = keep(p, summary == Summary::mean ? sum / static_cast<double>(count) : best);
    }
}

/// The score of a block as kernels/scorer.h defines it.
class BlockScore {
public:
    BlockScore(const Problem& p, const std::vector<double>& summaries)
        : p_(p), scorer_(*find_scorer(p.scorer.kind)), summaries_(summaries) {}

    double operator()(const Eigen::VectorXd& query, const cpu::Sequence& s, std::int64_t head, std::int64_t row,
                      std::int64_t block) const {
        if (scorer_.parts == 0) {
            return hash_score(hash_of_query(p_.scorer.seed, s.number, head, s.position(row)), block);
        }
        const std::int64_t per_block = p_.scorer.sub_blocks;
        const std::int64_t first = s.block_begin * per_block;
        double best = -std::numeric_limits<double>::infinity();
        for (std::int64_t i = block * per_block; i < (block + 1) * per_block; ++i) {
            if (cpu::sub_block_keys(s, per_block, i).count == 0) break;
            best = extreme(best, of_sub_block(query, head, first + i), true);
        }
        return best;
    }

private:
    double of_sub_block(const Eigen::VectorXd& query, std::int64_t head, std::int64_t sub_block) const {
        const std::int64_t head_k = head / (p_.heads_q / p_.heads_k);
        double sum = 0.0;
        for (int part = 0; part < scorer_.parts; ++part) {
            const QueryMap map = scorer_.part[static_cast<std::size_t>(part)].map;
            const std::int64_t at = ((sub_block * scorer_.parts + part) * p_.heads_k + head_k) * p_.head_dim;
            const Vector summary(summaries_.data() + at, p_.head_dim);
            sum += query.unaryExpr([map](double x) { return map_query(map, x); }).dot(summary);
        }
        return sum;
    }

    const Problem& p_;
    const ScorerDefinition& scorer_;
    const std::vector<double>& summaries_;
};

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The best `routed` of `scores`, best first: higher score (NaN before all numbers, -inf not at all), then higher
/// block.
void select_best(const std::vector<double>& scores, std::int64_t routed, std::int32_t* selection, double* best) {
    std::vector<std::int32_t> order;
    for (std::size_t j = 0; j < scores.size(); ++j) {
        if (scores[j] != -infinity) order.push_back(static_cast<std::int32_t>(j));
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
        best[slot] = slot < kept ? scores[static_cast<std::size_t>(selection[slot])] : -infinity;
    }
}

/// One row of a selection, from the scores of its candidates.
void select_row(const Problem& p, std::vector<double>& scores, std::int32_t* selection, double* best) {
    const std::int64_t first_slots = p.routed() - p.scored();
    if (first_slots > 0) {
        selection[0] = scores.empty() ? -1 : 0;
        best[0] = scores.empty() ? -infinity : infinity;
        if (!scores.empty()) scores[0] = -infinity;  // no candidate of the other slots
    }
    select_best(scores, p.scored(), selection + first_slots, best + first_slots);
}

}  // namespace

std::vector<double> centroids(const Problem& p, const Rows& k, int threads) {
    const std::int64_t d = p.head_dim;
    const std::int64_t per_block = p.scorer.sub_blocks;
    const ScorerDefinition& scorer = *find_scorer(p.scorer.kind);
    std::vector<double> summaries(static_cast<std::size_t>(p.centroid_elements()));
    for (const cpu::Sequence& s : cpu::key_sequences_of(p)) {
        cpu::parallel_for(s.blocks * per_block * p.heads_k, threads, [&](std::int64_t task) {
            const std::int64_t sub_block = task / p.heads_k;
            const std::int64_t head = task % p.heads_k;
            const cpu::KeySpan span = cpu::sub_block_keys(s, per_block, sub_block);
            if (span.count == 0) return;
            const std::vector<double> keys = gather(k, s.k_begin + span.first, span.count, head, d, 1);
            for (int part = 0; part < scorer.parts; ++part) {
                const std::int64_t row = (s.block_begin * per_block + sub_block) * scorer.parts + part;
                summarise(p, keys, scorer.part[static_cast<std::size_t>(part)].summary,
                          summaries.data() + (row * p.heads_k + head) * d);
            }
        });
        if (p.centroids == Centroids::centred) {
            centre(p, s.blocks, summaries.data() + s.block_begin * p.heads_k * d);
        }
    }
    return summaries;
}

Routing route(const Problem& p, const Rows& q, const std::vector<double>& centroids, const Options& options) {
    return route_sequences(p, cpu::sequences_of(p), q, centroids, options);
}

Routing route_sequences(const Problem& p, const std::vector<cpu::Sequence>& sequences, const Rows& q,
                        const std::vector<double>& centroids, const Options& options) {
    const std::int64_t count = judged_count(p, options);
    const BlockScore score(p, centroids);
    Routing result;
    result.selection.resize(static_cast<std::size_t>(p.heads_q * count * p.routed()));
    result.scores.resize(result.selection.size());
    for (const cpu::Sequence& s : sequences) {
        const std::vector<Judged> judged = judged_in(s, options);
        const auto rows = static_cast<std::int64_t>(judged.size());
        const std::int64_t chunks = (rows + queries_per_task - 1) / queries_per_task;
        cpu::parallel_for(chunks * p.heads_q, options.threads, [&](std::int64_t task) {
            const std::int64_t head = task / chunks;
            const std::int64_t first = task % chunks * queries_per_task;
            Eigen::VectorXd query(p.head_dim);
            std::vector<double> scores;
            for (std::int64_t i = first; i < std::min(rows, first + queries_per_task); ++i) {
                const Judged& row = judged[static_cast<std::size_t>(i)];
                q(row.token, head, query.data());
                scores.clear();
                for (std::int64_t block = 0; block < s.candidates(row.row); ++block) {
                    scores.push_back(score(query, s, head, row.row, block));
                }
                const std::int64_t at = (head * count + row.output) * p.routed();
                select_row(p, scores, result.selection.data() + at, result.scores.data() + at);
            }
        });
    }
    return result;
}

}  // namespace mobalab::kernels::reference
