// The laws the probe promises: affinities exactly as asked, queries uniform, all other keys pure noise.
#include "experiments/probe/needle_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "analysis/routing_point.h"
#include "experiments/probe/needle_source.h"
#include "experiments/probe/probe_run.h"
#include "tests/experiments/probe/plain_router.h"
#include "tests/experiments/probe/selection_difference.h"
#include "tests/sim/statistics.h"

namespace mobalab::experiments {
namespace {

using sim::testing::kMaxZ;
using sim::testing::kSlower;

using Row = Eigen::Map<const Eigen::RowVectorXf>;

ProbeJob job_of(ProbeShape shape, NeedleKind kind, std::int64_t probes) {
    return {.shape = shape,
            .budget = {.key_sets = 32, .probes = probes},
            .seed = sim::testing::test_seed(),
            .kinds = {std::move(kind)}};
}

const ProbeShape small_shape{.head_dim = 16, .block_size = 8, .seq_len = 200};
const NeedleKind one_needle{.mu_signal = 0.6, .mu_cluster = 0.0, .cluster_size = 1, .topks = {2, 4}};
// Half of the clusters of this kind are infeasible at d = 16.
const NeedleKind tight_cluster{.mu_signal = 0.9, .mu_cluster = 0.2, .cluster_size = 4, .topks = {3}};

// One key set with its queries.
struct Drawn {
    std::vector<float> keys;
    std::vector<ProbeSegment> segments;
    std::vector<std::int64_t> candidates;  // of every probe
    HostQueries built;
    std::vector<std::int64_t> slots;  // [probes, cluster size]

    Drawn(const ProbeJob& job, std::int64_t key_set)
        : keys(draw_keys(job.shape, job.seed, key_set)),
          built(job, job.kinds.front(), key_set),
          slots(built.recipe.slots) {
        segments = segments_of(chunks_of_key_set(job, key_set), job.shape.block_size);
        for (const ProbeSegment& segment : segments) {
            candidates.insert(candidates.end(), static_cast<std::size_t>(segment.rows), segment.candidates);
        }
    }
    Row key(const ProbeJob& job, std::int64_t position) const {
        return {keys.data() + position * job.shape.head_dim, job.shape.head_dim};
    }
    Row query(const ProbeJob& job, std::size_t probe) const {
        return {built.queries.data() + static_cast<std::int64_t>(probe) * job.shape.head_dim, job.shape.head_dim};
    }
};

TEST(NeedleProbe, QueriesHaveExactlyTheAffinitiesAskedFor) {
    for (const NeedleKind& kind : {one_needle, tight_cluster}) {
        const ProbeJob job = job_of(small_shape, kind, 256);
        const Drawn drawn(job, 0);
        const auto m = static_cast<std::size_t>(kind.cluster_size);
        std::size_t kept = 0;
        for (std::size_t i = 0; i < drawn.candidates.size(); ++i) {
            EXPECT_NEAR(drawn.query(job, i).norm(), 1.0, 1e-6);
            if (drawn.built.feasible[i] == 0) {
                continue;
            }
            ++kept;
            const std::int64_t block = drawn.slots[i * m] / job.shape.block_size;
            ASSERT_LT(block, drawn.candidates[i]);
            std::set<std::int64_t> slots;
            for (std::size_t t = 0; t < m; ++t) {
                const std::int64_t slot = drawn.slots[i * m + t];
                ASSERT_EQ(slot / job.shape.block_size, block);
                slots.insert(slot);
                const double wanted = t == 0 ? kind.mu_signal : kind.mu_cluster;
                EXPECT_NEAR(drawn.query(job, i).dot(drawn.key(job, slot)), wanted, 2e-6);
            }
            EXPECT_EQ(slots.size(), m);
        }
        EXPECT_GT(kept, drawn.candidates.size() / 4);
    }
}

// Sums of x, x^2 over affinities to keys outside the cluster, those in the needle's block apart from the others.
struct Affinities {
    double count = 0.0;
    double sum = 0.0;
    double squares = 0.0;

    void add(double x) {
        count += 1.0;
        sum += x;
        squares += x * x;
    }
    // Exact laws of the sphere: mean 0, variance 1/d, fourth moment 3/(d(d+2)).
    double z_of_mean(double d) const { return sum / std::sqrt(count / d); }
    double z_of_variance(double d) const {
        const double variance = 3.0 / (d * (d + 2.0)) - 1.0 / (d * d);
        return (squares - count / d) / std::sqrt(count * variance);
    }
};

bool in_cluster(const Drawn& drawn, std::size_t probe, std::size_t m, std::int64_t slot) {
    const auto first = drawn.slots.begin() + static_cast<std::ptrdiff_t>(probe * m);
    const auto last = first + static_cast<std::ptrdiff_t>(m);
    return std::find(first, last, slot) != last;
}

// Keys of the needle's block outside the cluster. The first probe of a block counts, or none: probes that share keys
// are not independent, and a second one where the first was dropped would be the redrawing that biases.
Affinities affinities_in_needle_blocks(const NeedleKind& kind, std::int64_t key_sets) {
    const ProbeJob job = job_of(small_shape, kind, 64);
    const auto m = static_cast<std::size_t>(kind.cluster_size);
    Affinities result;
    for (std::int64_t g = 0; g < key_sets; ++g) {
        const Drawn drawn(job, g);
        std::set<std::int64_t> used;
        for (std::size_t i = 0; i < drawn.candidates.size(); ++i) {
            const std::int64_t block = drawn.slots[i * m] / job.shape.block_size;
            if (!used.insert(block).second || drawn.built.feasible[i] == 0) {
                continue;
            }
            for (std::int64_t s = block * job.shape.block_size; s < (block + 1) * job.shape.block_size; ++s) {
                if (!in_cluster(drawn, i, m, s)) {
                    result.add(drawn.query(job, i).dot(drawn.key(job, s)));
                }
            }
        }
    }
    return result;
}

const std::int64_t key_sets_of_laws = 4000 / static_cast<std::int64_t>(kSlower);

// False alarm 1e-9 each; about 10 probes and 50 affinities a key set, so that a variance off by 5 % shows at z = 15.
TEST(NeedleProbe, KeysBesideTheClusterArePureNoise) {
    for (const NeedleKind& kind : {one_needle, tight_cluster}) {
        const Affinities seen = affinities_in_needle_blocks(kind, key_sets_of_laws);
        EXPECT_LT(std::abs(seen.z_of_mean(16.0)), kMaxZ) << "of " << seen.count;
        EXPECT_LT(std::abs(seen.z_of_variance(16.0)), kMaxZ) << "of " << seen.count;
        Affinities biased = seen;
        biased.squares *= 1.05;
        EXPECT_GT(std::abs(biased.z_of_variance(16.0)), kMaxZ / std::sqrt(static_cast<double>(kSlower)));
    }
}

// Keys that are needles of *other* probes are noise to a probe as well. One pair of probes a key set.
TEST(NeedleProbe, NeedlesOfOtherProbesArePureNoise) {
    const ProbeJob job = job_of(small_shape, one_needle, 64);
    Affinities seen;
    for (std::int64_t g = 0; g < key_sets_of_laws; ++g) {
        const Drawn drawn(job, g);
        for (std::size_t other = 0; other < drawn.candidates.size(); ++other) {
            if (drawn.slots[other] != drawn.slots.back()) {
                seen.add(drawn.query(job, drawn.candidates.size() - 1).dot(drawn.key(job, drawn.slots[other])));
                break;
            }
        }
    }
    EXPECT_LT(std::abs(seen.z_of_mean(16.0)), kMaxZ);
    EXPECT_LT(std::abs(seen.z_of_variance(16.0)), kMaxZ);
}

// The fault that the tests above exist for: an infeasible cluster replaced by another one of the same block.
TEST(NeedleProbe, RedrawingInfeasibleClustersWouldFailTheLaws) {
    constexpr std::int64_t d = 16;
    constexpr std::int64_t block = 8;
    const ProbeShape one_block{.head_dim = d, .block_size = block, .seq_len = block};
    Affinities seen;
    for (std::int64_t g = 0; g < 10 * key_sets_of_laws; ++g) {
        const std::vector<float> keys = draw_keys(one_block, 1, g);
        const Eigen::Map<const Eigen::Matrix<float, block, d, Eigen::RowMajor>> rows(keys.data());
        for (std::int64_t first = 0; first < 5; ++first) {  // the first feasible cluster of the block
            const Eigen::MatrixXd cluster = rows.middleRows(first, 4).cast<double>();
            Eigen::VectorXd mu = Eigen::VectorXd::Constant(4, 0.2);
            mu[0] = 0.9;
            const Eigen::VectorXd weights = (cluster * cluster.transpose()).ldlt().solve(mu);
            if (mu.dot(weights) > 1.0) {
                continue;
            }
            // The part of the query outside the cluster's span has mean 0 and is left out of the mean.
            const Eigen::VectorXd query = cluster.transpose() * weights;
            for (std::int64_t s = 0; s < block; ++s) {
                if (s < first || s >= first + 4) {
                    seen.add(rows.row(s).cast<double>().dot(query));
                }
            }
            break;
        }
    }
    EXPECT_GT(std::abs(seen.z_of_mean(static_cast<double>(d))), kMaxZ);
}

// Every coordinate of a query: mean 0, variance 1/d. One query a key set.
TEST(NeedleProbe, QueriesAreUniformOnTheSphere) {
    for (const NeedleKind& kind : {one_needle, tight_cluster}) {
        const ProbeJob job = job_of(small_shape, kind, 64);
        std::vector<Affinities> axes(16);
        for (std::int64_t g = 0; g < key_sets_of_laws; ++g) {
            const Drawn drawn(job, g);
            const auto kept = std::find(drawn.built.feasible.begin(), drawn.built.feasible.end(), 1);
            ASSERT_NE(kept, drawn.built.feasible.end());
            const Row query = drawn.query(job, static_cast<std::size_t>(kept - drawn.built.feasible.begin()));
            for (std::size_t e = 0; e < axes.size(); ++e) {
                axes[e].add(query[static_cast<Eigen::Index>(e)]);
            }
        }
        for (const Affinities& axis : axes) {
            EXPECT_LT(std::abs(axis.z_of_mean(16.0)), kMaxZ);
            EXPECT_LT(std::abs(axis.z_of_variance(16.0)), kMaxZ);
        }
    }
}

analysis::RoutingPoint point_of(std::int64_t topk, double mu) {
    return {.head_dim = 16, .block_size = 8, .candidates = 24, .topk = topk, .mu_signal = mu, .seq_len = 200};
}

std::vector<JobCounts> counts_of(const ProbePlan& plan, const KernelUnderTest& kernel) {
    UnitJournal none(nullptr);
    return run_probes(plan.jobs, kernel, none, [](double, const std::string&) {});
}

std::vector<std::int64_t> misses_of(const ProbePlan& plan, const std::vector<JobCounts>& counts, std::size_t point) {
    const ProbePlace& place = plan.places[point];
    const ProbeJob& job = plan.jobs[place.job];
    const auto buckets = static_cast<std::ptrdiff_t>(candidate_buckets(job.shape.last_candidates()).size());
    std::vector<std::int64_t> misses;
    for (const KeySetCounts& key_set : counts[place.job]) {
        const auto first = key_set.misses.begin() +
                           static_cast<std::ptrdiff_t>(misses_index(NeedleSource(job), place.kind, place.topk));
        misses.insert(misses.end(), first, first + buckets);
    }
    return misses;
}

TEST(NeedleProbe, APointDoesNotDependOnItsGrid) {
    const ProbeSettings settings{.trials = 4096, .seed = 5, .threads = 1};
    const ProbePlan grid =
        plan_probes({point_of(2, 0.5), point_of(4, 0.5), point_of(4, 0.9), point_of(8, 0.9)}, settings);
    ASSERT_EQ(grid.jobs.size(), 1U);
    ASSERT_EQ(grid.jobs[0].kinds.size(), 2U);
    const std::vector<JobCounts> in_grid = counts_of(grid, *cpu_kernel(1));
    const std::vector<analysis::RoutingPoint> points = {point_of(2, 0.5), point_of(4, 0.5), point_of(4, 0.9),
                                                        point_of(8, 0.9)};
    for (std::size_t i = 0; i < points.size(); ++i) {
        const ProbePlan alone = plan_probes({points[i]}, settings);
        EXPECT_EQ(misses_of(alone, counts_of(alone, *cpu_kernel(1)), 0), misses_of(grid, in_grid, i)) << i;
    }
}

TEST(NeedleProbe, CountsDoNotDependOnThreads) {
    const ProbePlan plan = plan_probes({point_of(4, 0.7)}, {.trials = 4096, .seed = 6});
    const std::vector<JobCounts> one = counts_of(plan, *cpu_kernel(1));
    EXPECT_EQ(counts_of(plan, *cpu_kernel(3)), one);
    EXPECT_NE(counts_of(plan_probes({point_of(4, 0.7)}, {.trials = 4096, .seed = 7}), *cpu_kernel(3)), one);
}

// Near ties aside (scores that differ in the last bit) the fast kernel and plain loops choose the same blocks: out of
// 4096 probes a handful may differ.
TEST(NeedleProbe, TheKernelRoutesLikePlainLoops) {
    const ProbePlan plan = plan_probes({point_of(4, 0.7)}, {.trials = 4096, .seed = 8});
    const std::vector<std::int64_t> fast = misses_of(plan, counts_of(plan, *cpu_kernel(1)), 0);
    const std::vector<std::int64_t> plain = misses_of(plan, counts_of(plan, PlainRouter()), 0);
    std::int64_t differ = 0;
    for (std::size_t i = 0; i < fast.size(); ++i) {
        differ += std::abs(fast[i] - plain[i]);
    }
    EXPECT_LE(differ, 4);
    EXPECT_GT(std::accumulate(fast.begin(), fast.end(), std::int64_t{0}), 100);
}

// What the tests on the GPU rely on: right routers differ in near ties only, a wrong one in more than that.
TEST(NeedleProbe, DifferencesOfRoutersAreTold) {
    const ProbeShape shape{.head_dim = 32, .block_size = 16, .seq_len = 2000};
    const ProbeJob job = job_of(shape, {.mu_signal = 0.7, .mu_cluster = 0.0, .cluster_size = 1, .topks = {8}}, 512);
    const SelectionDifference right = difference_of(job, 0, *cpu_kernel(1), PlainRouter());
    EXPECT_EQ(right.rows, 512);
    EXPECT_LE(right.differing_rows, 10);
    EXPECT_LE(right.worst_gap, gap_bound(shape));
    const SelectionDifference noisy = difference_of(job, 0, *cpu_kernel(1), PlainRouter({.noise_variance = 1.05}));
    EXPECT_GT(noisy.differing_rows, 10);
    EXPECT_GT(noisy.worst_gap, gap_bound(shape));
    const SelectionDifference fewer = difference_of(job, 0, *cpu_kernel(1), PlainRouter({.more_candidates = -1}));
    EXPECT_FALSE(fewer.worst_gap <= gap_bound(shape));
}

std::string refusal(const analysis::RoutingPoint& point) {
    try {
        plan_probes({point}, {});
    } catch (const analysis::InputError& error) {
        return error.what();
    }
    return "accepted";
}

TEST(NeedleProbe, RefusesWhatNoKeysAllow) {
    analysis::RoutingPoint point = point_of(4, 0.9);
    point.cluster_size = 4;
    point.mu_cluster = 0.6;
    EXPECT_THAT(refusal(point),
                testing::AllOf(testing::HasSubstr("mu-signal = 0.9"), testing::HasSubstr("cluster-size = 4"),
                               testing::HasSubstr("head-dim = 16"), testing::HasSubstr("nearest valid")));
    point = point_of(4, 0.1);
    point.block_size = 32;
    point.seq_len = 0;
    point.cluster_size = 16;
    EXPECT_THAT(refusal(point), testing::HasSubstr("nearest valid: 15"));
    point = point_of(1025, 0.5);
    point.candidates = 2000;
    point.seq_len = 0;
    EXPECT_THAT(refusal(point), testing::HasSubstr("nearest valid: 1024"));
}

TEST(NeedleProbe, AffinitiesOfOneAreFeasibleForOneNeedle) {
    EXPECT_EQ(refusal(point_of(4, 1.0)), "accepted");
}

}  // namespace
}  // namespace mobalab::experiments
