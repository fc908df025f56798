#include "experiments/probe/text_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "analysis/routing_point.h"
#include "experiments/base/values.h"
#include "experiments/probe/text_tensors.h"
#include "sim/streams/philox.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t most_rows_a_chunk = 128;  // a tile of every backend
constexpr std::int64_t most_probes_a_key_set = 64;
constexpr std::int64_t most_coordinates = std::int64_t{1} << 31U;

std::string canonical_text(const TextFields& text) {
    return fmt::format("effective_dim={};key_correlation={};key_mean={};key_memory={};sink={}",
                       shortest(text.effective_dim), shortest(text.key_correlation), shortest(text.key_mean),
                       text.key_memory, shortest(text.sink));
}

// Of everything that keys, positions and needles depend on, whatever the kind of query.
std::string identity_of_keys(const ProbeJob& job) {
    return fmt::format("{};{}", canonical_text(job.shape), canonical_text(*job.text));
}

sim::PhiloxKey key_of(const char* purpose, std::uint64_t seed, const std::string& identity) {
    return sim::stream_key(seed, sim::hash_text(fmt::format("text probe {};{}", purpose, identity)));
}

std::string identity_of_kind(const NeedleKind& kind) {
    return fmt::format(";mu_signal={};query_mean={}", shortest(kind.mu_signal), shortest(kind.query_mean));
}

std::int64_t below(std::uint32_t word, std::int64_t bound) {
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(bound)) >> 32U);
}

analysis::RoutingPoint point_of(const ProbeJob& job) {
    return {.model = analysis::Model::text,
            .head_dim = job.shape.head_dim,
            .block_size = job.shape.block_size,
            .candidates = job.shape.last_candidates(),
            .key_correlation = job.text->key_correlation,
            .key_mean = job.text->key_mean,
            .effective_dim = job.text->effective_dim,
            .key_memory = job.text->key_memory,
            .sink = job.text->sink};
}

// Keys inside the kernel, and where the queries are built from them.
class LoadedText : public LoadedKeys {
public:
    LoadedText(const KernelUnderTest& kernel, const ProbeShape& shape, std::vector<float> tensor)
        : head_dim_(static_cast<std::size_t>(shape.head_dim)),
          tensor_(std::move(tensor)),
          inside_(kernel.load(shape, tensor_)) {}

    void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
               std::span<std::int32_t> selection) override {
        inside_->route(chunks, queries, topk, selection);
    }
    std::span<const float> key(std::int64_t token) const {
        return std::span(tensor_).subspan(static_cast<std::size_t>(token) * head_dim_, head_dim_);
    }

private:
    std::size_t head_dim_;
    std::vector<float> tensor_;
    std::unique_ptr<LoadedKeys> inside_;
};

}  // namespace

TextSource::TextSource(ProbeJob job) : job_(std::move(job)), keys_(point_of(job_)) {}

std::string TextSource::identity() const {
    std::string text = fmt::format("text;seed={};key_sets={};probes={};{}", job_.seed, job_.budget.key_sets,
                                   job_.budget.probes, identity_of_keys(job_));
    for (const NeedleKind& kind : job_.kinds) {
        text += identity_of_kind(kind);
    }
    return text;
}

std::vector<QueryChunk> TextSource::chunks(std::int64_t key_set) const {
    const std::int64_t size = job_.shape.block_size;
    const std::int64_t own_block = job_.shape.last_candidates() * size;
    const sim::PhiloxKey key = key_of("positions", job_.seed, identity_of_keys(job_));
    // From a uniform place on, around the end of the block to its beginning: each probe's place is uniform.
    std::int64_t place = below(sim::philox_block(key, static_cast<std::uint64_t>(key_set), 0)[0], size);
    std::vector<QueryChunk> chunks;
    for (std::int64_t left = job_.budget.probes; left > 0;) {
        const std::int64_t rows = std::min({left, size - place, most_rows_a_chunk});
        chunks.push_back({own_block + place, rows});
        place = (place + rows) % size;
        left -= rows;
    }
    return chunks;
}

std::unique_ptr<LoadedKeys> TextSource::load(const KernelUnderTest& kernel, std::int64_t key_set) const {
    return std::make_unique<LoadedText>(
        kernel, job_.shape,
        draw_text_keys(keys_, job_.shape.seq_len, key_of("keys", job_.seed, identity_of_keys(job_)),
                       static_cast<std::uint64_t>(key_set)));
}

RoutedProbes TextSource::route(LoadedKeys& keys, std::int64_t key_set, std::size_t kind,
                               const std::vector<QueryChunk>& chunks) const {
    const auto& text = dynamic_cast<const LoadedText&>(keys);  // what load() gave
    const NeedleKind& needles = job_.kinds[kind];
    const std::string identity = identity_of_keys(job_) + identity_of_kind(needles);
    const sim::PhiloxKey needle_key = key_of("needles", job_.seed, identity);
    const sim::PhiloxKey noise_key = key_of("noise", job_.seed, identity);
    const auto subsequence = static_cast<std::uint64_t>(key_set);
    const std::int64_t topk = *std::max_element(needles.topks.begin(), needles.topks.end());
    const auto head_dim = static_cast<std::size_t>(job_.shape.head_dim);
    std::vector<float> queries(static_cast<std::size_t>(job_.budget.probes) * head_dim);
    RoutedProbes probes;
    std::uint64_t probe = 0;
    for (const QueryChunk& chunk : chunks) {
        for (std::int64_t row = chunk.start; row < chunk.start + chunk.rows; ++row, ++probe) {
            const auto words = sim::philox_block(needle_key, subsequence, probe);
            probes.targets.push_back(below(words[0], job_.shape.last_candidates()));
            const std::int64_t needle =
                probes.targets.back() * job_.shape.block_size + below(words[1], job_.shape.block_size);
            build_text_query(keys_,
                             {.needle = needle,
                              .position = row,
                              .mu_signal = needles.mu_signal,
                              .query_mean = needles.query_mean,
                              .noise = probe},
                             text.key(needle), noise_key, subsequence,
                             std::span(queries).subspan(static_cast<std::size_t>(probe) * head_dim, head_dim));
        }
    }
    probes.kept.assign(probes.targets.size(), 1);
    probes.selection.assign(probes.targets.size() * static_cast<std::size_t>(topk - 1),
                            std::numeric_limits<std::int32_t>::min());
    keys.route(chunks, queries, topk, probes.selection);
    return probes;
}

std::optional<analysis::HitProbability> TextSource::expectation(std::size_t, std::size_t, std::int64_t) const {
    return std::nullopt;
}

ProbeBudget split_text_probes(std::int64_t trials, std::int64_t key_sets) {
    if (key_sets == 0) {
        key_sets = std::max(least_key_sets, (trials + most_probes_a_key_set - 1) / most_probes_a_key_set);
    }
    return {key_sets, std::max<std::int64_t>(2, (trials + key_sets - 1) / key_sets)};
}

void check_text_job(const ProbeJob& job) {
    if (job.shape.seq_len > most_coordinates / job.shape.head_dim) {
        throw analysis::InputError(fmt::format(
            "seq-len = {} with head-dim = {}: keys of model text are drawn on the host, at most {} "
            "coordinates; nearest valid: {}",
            job.shape.seq_len, job.shape.head_dim, most_coordinates, most_coordinates / job.shape.head_dim));
    }
}

}  // namespace mobalab::experiments
