#include "experiments/needle_probe.h"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "analysis/routing_point.h"
#include "experiments/values.h"
#include "sim/gaussian.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatRow = Eigen::Map<const Eigen::RowVectorXf>;

constexpr std::size_t tried_clusters = 256;
constexpr double least_feasible_share = 0.02;
constexpr std::int64_t most_topk = 64;  // kernels.h

std::string canonical_text(const ProbeShape& shape, const NeedleKind& kind) {
    return fmt::format("{};cluster_size={};mu_cluster={};mu_signal={}", canonical_text(shape), kind.cluster_size,
                       shortest(kind.mu_cluster), shortest(kind.mu_signal));
}

sim::PhiloxKey key_of(const char* purpose, std::uint64_t seed, const std::string& identity) {
    return sim::stream_key(seed, sim::hash_text(fmt::format("needle probe {};{}", purpose, identity)));
}

// Integers of one probe, drawn one after the other from its own draws of the stream.
class ProbeWords {
public:
    ProbeWords(sim::PhiloxKey key, std::int64_t key_set, std::int64_t probe)
        : key_(key), key_set_(static_cast<std::uint64_t>(key_set)), draw_(static_cast<std::uint64_t>(probe) << 32U) {}

    // In [0, bound). The bias of 2^-32 bound does not matter: any choice that does not look at the keys is valid.
    std::int64_t below(std::int64_t bound) {
        if (used_ == words_.size()) {
            words_ = sim::philox_block(key_, key_set_, draw_++);
            used_ = 0;
        }
        return static_cast<std::int64_t>(
            (static_cast<std::uint64_t>(words_[used_++]) * static_cast<std::uint64_t>(bound)) >> 32U);
    }

private:
    sim::PhiloxKey key_;
    std::uint64_t key_set_;
    std::uint64_t draw_;
    std::array<std::uint32_t, 4> words_{};
    std::size_t used_ = 4;
};

// `count` distinct integers of [0, bound): Floyd's algorithm (Bentley, CACM 30(9), 1987).
void draw_distinct(ProbeWords& words, std::int64_t bound, std::span<std::int64_t> out) {
    std::size_t drawn = 0;
    for (std::int64_t top = bound - std::ssize(out); top < bound; ++top, ++drawn) {
        const std::int64_t candidate = words.below(top + 1);
        const bool taken = std::find(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(drawn), candidate) !=
                           out.begin() + static_cast<std::ptrdiff_t>(drawn);
        out[drawn] = taken ? top : candidate;
    }
}

// Builds one query from its cluster (see the header); scratch space is kept between queries.
class QueryBuilder {
public:
    QueryBuilder(std::int64_t head_dim, const NeedleKind& kind)
        : head_dim_(head_dim), cluster_(kind.cluster_size, head_dim), mu_(kind.cluster_size) {
        mu_.setConstant(kind.mu_cluster);
        mu_[0] = kind.mu_signal;
    }

    // Takes the keys in these rows of `keys`; the squared norm mu^T G^-1 mu their span needs for the affinities.
    double load(const std::vector<float>& keys, std::span<const std::int64_t> rows) {
        for (Eigen::Index i = 0; i < cluster_.rows(); ++i) {
            const float* row = keys.data() + rows[static_cast<std::size_t>(i)] * head_dim_;
            cluster_.row(i) = FloatRow(row, head_dim_).cast<double>();
        }
        gram_.noalias() = cluster_ * cluster_.transpose();
        solver_.compute(gram_);
        weights_ = solver_.solve(mu_);
        const bool singular = solver_.info() != Eigen::Success;
        norm_ = singular ? std::numeric_limits<double>::infinity() : mu_.dot(weights_);
        return norm_;
    }

    void build(const float* noise, float* query) {
        direction_ = FloatRow(noise, head_dim_).transpose().cast<double>();
        projection_.noalias() = cluster_ * direction_;
        solver_.solveInPlace(projection_);
        direction_.noalias() -= cluster_.transpose() * projection_;
        direction_ *= std::sqrt(std::max(0.0, 1.0 - norm_)) / direction_.norm();
        direction_.noalias() += cluster_.transpose() * weights_;
        Eigen::Map<Eigen::VectorXf>(query, head_dim_) = direction_.cast<float>();
    }

private:
    std::int64_t head_dim_;
    RowMajor cluster_;
    Eigen::VectorXd mu_;
    RowMajor gram_;
    Eigen::LLT<RowMajor> solver_;
    Eigen::VectorXd weights_;
    Eigen::VectorXd projection_;
    Eigen::VectorXd direction_;
    double norm_ = 0.0;
};

// Rounding: a cluster of one needle with mu = 1 has norm 1 + a few ulps.
bool feasible(double norm) {
    return norm <= 1.0 + 1e-6;
}

void normalize_rows(float* rows, std::int64_t count, std::int64_t head_dim) {
    for (std::int64_t row = 0; row < count; ++row) {
        Eigen::Map<Eigen::VectorXf>(rows + row * head_dim, head_dim).normalize();
    }
}

// Throws when next to no cluster of random unit keys allows the affinities.
void check_feasible(std::int64_t head_dim, const NeedleKind& kind) {
    const std::int64_t m = kind.cluster_size;
    std::vector<float> keys(tried_clusters * static_cast<std::size_t>(m * head_dim));
    sim::fill_gaussian(keys, key_of("feasible clusters", 0, ""), 0);
    normalize_rows(keys.data(), static_cast<std::int64_t>(tried_clusters) * m, head_dim);
    QueryBuilder builder(head_dim, kind);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(m));
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<double> norms;
    for (std::size_t i = 0; i < tried_clusters; ++i) {
        norms.push_back(builder.load(keys, rows));
        std::for_each(rows.begin(), rows.end(), [m](std::int64_t& row) { row += m; });
    }
    std::sort(norms.begin(), norms.end());
    const double needed = norms[static_cast<std::size_t>(least_feasible_share * tried_clusters)];
    if (!feasible(needed)) {
        const double shrink = 1.0 / std::sqrt(norms[norms.size() / 2]);  // keeps about half of the probes
        throw InputError(fmt::format(
            "mu-signal = {}, mu-cluster = {}, cluster-size = {}: hardly any {} unit keys at head-dim = {} lie so "
            "that a unit query has these affinities to them (their squares sum to {:.4g}); nearest valid in "
            "the same proportion: mu-signal = {:.3g}, mu-cluster = {:.3g}",
            shortest(kind.mu_signal), shortest(kind.mu_cluster), m, m, head_dim,
            kind.mu_signal * kind.mu_signal + static_cast<double>(m - 1) * kind.mu_cluster * kind.mu_cluster,
            shrink * kind.mu_signal, shrink * kind.mu_cluster));
    }
}

// Index of the needle's block in one row of the selection; the length of the row when it is not there.
std::int64_t rank_of(std::span<const std::int32_t> row, std::int64_t block) {
    return std::find(row.begin(), row.end(), static_cast<std::int32_t>(block)) - row.begin();
}

bool legal(std::span<const std::int32_t> row, std::int64_t candidates) {
    const std::int64_t filled = std::min(std::ssize(row), candidates);
    return std::all_of(row.begin(), row.begin() + filled,
                       [&](std::int32_t block) { return 0 <= block && block < candidates; }) &&
           std::all_of(row.begin() + filled, row.end(), [](std::int32_t block) { return block == -1; });
}

}  // namespace

std::int64_t ProbeJob::largest_topk() const {
    std::int64_t largest = 1;
    for (const NeedleKind& kind : kinds) {
        largest = std::max(largest, *std::max_element(kind.topks.begin(), kind.topks.end()));
    }
    return largest;
}

std::size_t misses_index(const ProbeJob& job, std::size_t kind, std::size_t topk) {
    const std::size_t buckets = candidate_buckets(job.shape.last_candidates()).size();
    std::size_t rows = topk;
    for (std::size_t i = 0; i < kind; ++i) {
        rows += job.kinds[i].topks.size();
    }
    return rows * buckets;
}

std::size_t misses_size(const ProbeJob& job) {
    return misses_index(job, job.kinds.size(), 0);
}

void check_job(const ProbeJob& job) {
    if (job.largest_topk() > most_topk) {
        throw InputError(fmt::format("topk = {}: the kernels keep at most {} blocks; nearest valid: {}",
                                     job.largest_topk(), most_topk, most_topk));
    }
    for (const NeedleKind& kind : job.kinds) {
        if (kind.cluster_size >= job.shape.head_dim) {
            throw InputError(
                fmt::format("cluster-size = {} with head-dim = {}: a query has free affinities to at most "
                            "head-dim - 1 keys; nearest valid: {}",
                            kind.cluster_size, job.shape.head_dim, job.shape.head_dim - 1));
        }
        check_feasible(job.shape.head_dim, kind);
    }
}

std::vector<QueryChunk> chunks_of_key_set(const ProbeJob& job, std::int64_t key_set) {
    const sim::PhiloxKey key = key_of("positions", job.seed, canonical_text(job.shape));
    std::vector<double> uniforms(static_cast<std::size_t>(probe_strata(job.shape, job.budget.probes)));
    for (std::size_t i = 0; i < uniforms.size(); ++i) {
        uniforms[i] = std::ldexp(sim::philox_block(key, static_cast<std::uint64_t>(key_set), i)[0], -32);
    }
    return probe_chunks(job.shape, job.budget.probes, uniforms);
}

void draw_keys(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set, std::vector<float>& keys) {
    keys.resize(static_cast<std::size_t>(shape.seq_len * shape.head_dim));
    const sim::PhiloxKey key = key_of("keys", seed, canonical_text(shape));
    // Slice by slice, so that a slice is still in cache when it is normalised.
    const std::int64_t slice_rows = 64;  // multiple of 4: slices are whole Philox blocks
    for (std::int64_t first = 0; first < shape.seq_len; first += slice_rows) {
        const std::int64_t rows = std::min(slice_rows, shape.seq_len - first);
        float* slice = keys.data() + first * shape.head_dim;
        sim::fill_gaussian({slice, static_cast<std::size_t>(rows * shape.head_dim)}, key,
                           static_cast<std::uint64_t>(key_set), static_cast<std::uint64_t>(first * shape.head_dim / 4));
        normalize_rows(slice, rows, shape.head_dim);
    }
}

std::vector<float> draw_keys(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set) {
    std::vector<float> keys;
    draw_keys(shape, seed, key_set, keys);
    return keys;
}

std::vector<ProbeSegment> segments_of(const std::vector<QueryChunk>& chunks, std::int64_t block_size) {
    std::vector<ProbeSegment> segments;
    for (const QueryChunk& chunk : chunks) {
        std::int64_t row = chunk.start;
        while (row < chunk.start + chunk.rows) {
            const std::int64_t candidates = row / block_size;
            const std::int64_t end = std::min((candidates + 1) * block_size, chunk.start + chunk.rows);
            segments.push_back({candidates, end - row});
            row = end;
        }
    }
    return segments;
}

BuiltQueries build_queries(const ProbeJob& job, const NeedleKind& kind, const std::vector<ProbeSegment>& segments,
                           const std::vector<float>& keys, std::int64_t key_set) {
    const std::string identity = canonical_text(job.shape, kind);
    const auto d = static_cast<std::size_t>(job.shape.head_dim);
    const auto m = static_cast<std::size_t>(kind.cluster_size);
    const auto probes = static_cast<std::size_t>(job.budget.probes);

    BuiltQueries built;
    built.queries.resize(probes * d);
    built.needle_block.resize(probes);
    built.slots.resize(probes * m);
    sim::fill_gaussian(built.queries, key_of("noise", job.seed, identity), static_cast<std::uint64_t>(key_set));
    normalize_rows(built.queries.data(), job.budget.probes, job.shape.head_dim);

    const sim::PhiloxKey slots_key = key_of("slots", job.seed, identity);
    QueryBuilder builder(job.shape.head_dim, kind);
    std::size_t i = 0;
    for (const ProbeSegment& segment : segments) {
        for (std::int64_t row = 0; row < segment.rows; ++row, ++i) {
            ProbeWords words(slots_key, key_set, static_cast<std::int64_t>(i));
            const std::int64_t block = words.below(segment.candidates);
            const std::span<std::int64_t> slots(built.slots.data() + i * m, m);
            draw_distinct(words, job.shape.block_size, slots);
            std::for_each(slots.begin(), slots.end(),
                          [&](std::int64_t& slot) { slot += block * job.shape.block_size; });
            const bool kept = feasible(builder.load(keys, slots));
            built.needle_block[i] = kept ? block : -1;
            if (kept) {
                float* query = built.queries.data() + i * d;
                builder.build(query, query);
            }
        }
    }
    return built;
}

KeySetCounts probe_key_set(const ProbeJob& job, const KernelUnderTest& kernel, std::int64_t key_set) {
    // Fresh memory for every set of long sequences costs more (page faults) than drawing the keys.
    thread_local std::vector<float> keys;
    draw_keys(job.shape, job.seed, key_set, keys);
    const std::vector<QueryChunk> chunks = chunks_of_key_set(job, key_set);
    const std::vector<ProbeSegment> segments = segments_of(chunks, job.shape.block_size);
    const CandidateBuckets buckets = candidate_buckets(job.shape.last_candidates());
    const std::unique_ptr<LoadedKeys> loaded = kernel.load(job.shape, keys);

    KeySetCounts counts;
    counts.misses.assign(misses_size(job), 0);
    for (std::size_t kind = 0; kind < job.kinds.size(); ++kind) {
        const std::vector<std::int64_t>& topks = job.kinds[kind].topks;
        const std::int64_t topk = *std::max_element(topks.begin(), topks.end());
        const auto width = static_cast<std::size_t>(topk - 1);
        const BuiltQueries built = build_queries(job, job.kinds[kind], segments, keys, key_set);
        std::vector<std::int32_t> selection(built.needle_block.size() * width,
                                            std::numeric_limits<std::int32_t>::min());
        loaded->route(chunks, built.queries, topk, selection);
        std::size_t i = 0;
        for (const ProbeSegment& segment : segments) {
            const std::size_t bucket = buckets.index_of(segment.candidates);
            std::int64_t kept = 0;
            for (const std::size_t end = i + static_cast<std::size_t>(segment.rows); i < end; ++i) {
                const std::span<const std::int32_t> row(selection.data() + i * width, width);
                counts.illegal_rows += legal(row, segment.candidates) ? 0 : 1;
                if (built.needle_block[i] < 0) {
                    continue;
                }
                ++kept;
                const std::int64_t rank = rank_of(row, built.needle_block[i]);
                for (std::size_t t = 0; t < topks.size(); ++t) {
                    counts.misses[misses_index(job, kind, t) + bucket] += rank >= topks[t] - 1 ? 1 : 0;
                }
            }
            counts.trials.push_back(kept);
        }
    }
    return counts;
}

}  // namespace mobalab::experiments
