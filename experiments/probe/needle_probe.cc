#include "experiments/probe/needle_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/probe/text_source.h"
#include "sim/streams/needle_query.h"
#include "sim/streams/philox.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

constexpr std::size_t tried_clusters = 256;
constexpr double least_feasible_share = 0.02;
constexpr std::int64_t most_topk = kernels::max_routed_cuda + 1;

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

// Throws when next to no cluster of random unit keys allows the affinities.
void check_feasible(std::int64_t head_dim, const NeedleKind& kind) {
    const std::int64_t m = kind.cluster_size;
    const sim::UnitRows rows{.head_dim = head_dim, .key = key_of("feasible clusters", 0, "")};
    std::vector<float> cluster(static_cast<std::size_t>(m * head_dim));
    std::vector<double> norms;
    for (std::size_t i = 0; i < tried_clusters; ++i) {
        sim::fill_unit_rows(rows, static_cast<std::int64_t>(i) * m, cluster);
        norms.push_back(sim::needed_length(cluster, m, kind.mu_signal, kind.mu_cluster));
    }
    std::sort(norms.begin(), norms.end());
    const double needed = norms[static_cast<std::size_t>(least_feasible_share * tried_clusters)];
    if (!sim::is_feasible(needed)) {
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

}  // namespace

std::int64_t ProbeJob::largest_topk() const {
    std::int64_t largest = 1;
    for (const NeedleKind& kind : kinds) {
        largest = std::max(largest, *std::max_element(kind.topks.begin(), kind.topks.end()));
    }
    return largest;
}

void check_job(const ProbeJob& job) {
    if (job.largest_topk() > most_topk) {
        throw InputError(fmt::format("topk = {}: the kernels keep at most {} blocks; nearest valid: {}",
                                     job.largest_topk(), most_topk, most_topk));
    }
    if (job.text) {
        check_text_job(job);
        return;
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

sim::UnitRows keys_of_set(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set) {
    return {.head_dim = shape.head_dim,
            .key = key_of("keys", seed, canonical_text(shape)),
            .subsequence = static_cast<std::uint64_t>(key_set)};
}

std::vector<float> draw_keys(const ProbeShape& shape, std::uint64_t seed, std::int64_t key_set) {
    std::vector<float> keys(static_cast<std::size_t>(shape.seq_len * shape.head_dim));
    sim::fill_unit_rows(keys_of_set(shape, seed, key_set), 0, keys);
    return keys;
}

sim::NeedleQueries queries_of_set(const ProbeJob& job, const NeedleKind& kind,
                                  const std::vector<ProbeSegment>& segments, std::int64_t key_set) {
    const std::string identity = canonical_text(job.shape, kind);
    const auto m = static_cast<std::size_t>(kind.cluster_size);
    sim::NeedleQueries queries{.keys = keys_of_set(job.shape, job.seed, key_set),
                               .noise = {.head_dim = job.shape.head_dim,
                                         .key = key_of("noise", job.seed, identity),
                                         .subsequence = static_cast<std::uint64_t>(key_set)},
                               .cluster_size = kind.cluster_size,
                               .mu_signal = kind.mu_signal,
                               .mu_cluster = kind.mu_cluster,
                               .slots = {}};
    queries.slots.resize(static_cast<std::size_t>(job.budget.probes) * m);
    const sim::PhiloxKey slots_key = key_of("slots", job.seed, identity);
    std::size_t i = 0;
    for (const ProbeSegment& segment : segments) {
        for (std::int64_t row = 0; row < segment.rows; ++row, ++i) {
            ProbeWords words(slots_key, key_set, static_cast<std::int64_t>(i));
            const std::int64_t block = words.below(segment.candidates);
            const std::span<std::int64_t> slots(queries.slots.data() + i * m, m);
            draw_distinct(words, job.shape.block_size, slots);
            std::for_each(slots.begin(), slots.end(),
                          [&](std::int64_t& slot) { slot += block * job.shape.block_size; });
        }
    }
    return queries;
}

}  // namespace mobalab::experiments
