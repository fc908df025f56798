#include "experiments/probe/needle_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "analysis/hit_problem.h"
#include "experiments/base/values.h"

namespace mobalab::experiments {
namespace {

/// The scorer of analysis/ that the kernels' scorer is.
analysis::Scorer scorer_of(const kernels::Scorer& scorer) {
    const std::string name(kernels::find_scorer(scorer.kind)->name);
    return analysis::parse_scorer(scorer.sub_blocks == 1 ? name : fmt::format("{}-{}", name, scorer.sub_blocks));
}

/// The question a probe asks: unit keys, whatever the number of candidates.
analysis::RoutingPoint question_of(const ProbeShape& shape, const NeedleKind& kind, std::int64_t topk) {
    return {.model = analysis::Model::sphere,
            .head_dim = shape.head_dim,
            .block_size = shape.block_size,
            .topk = topk,
            .cluster_size = kind.cluster_size,
            .mu_signal = kind.mu_signal,
            .mu_cluster = kind.mu_cluster,
            .scorer = scorer_of(shape.scorer)};
}

}  // namespace

NeedleSource::NeedleSource(ProbeJob job, std::shared_ptr<analysis::MissCurves> curves)
    : job_(std::move(job)), all_curves_(curves ? std::move(curves) : std::make_shared<analysis::MissCurves>()) {
    for (const NeedleKind& kind : job_.kinds) {
        curves_.emplace_back();
        for (const std::int64_t topk : kind.topks) {
            const analysis::RoutingPoint question = question_of(job_.shape, kind, topk);
            const bool known = job_.has_law && analysis::has_exact_probability(question);
            curves_.back().push_back(known ? &all_curves_->of(question) : nullptr);
        }
    }
}

std::string NeedleSource::identity() const {
    std::string text = fmt::format("needles;seed={};key_sets={};probes={};{}", job_.seed, job_.budget.key_sets,
                                   job_.budget.probes, canonical_text(job_.shape));
    for (const NeedleKind& kind : job_.kinds) {
        text += fmt::format(";cluster_size={};mu_cluster={};mu_signal={}", kind.cluster_size, shortest(kind.mu_cluster),
                            shortest(kind.mu_signal));
    }
    return text;
}

std::vector<QueryChunk> NeedleSource::chunks(std::int64_t key_set) const {
    return chunks_of_key_set(job_, key_set);
}

std::unique_ptr<LoadedKeys> NeedleSource::load(const KernelUnderTest& kernel, std::int64_t key_set) const {
    return kernel.draw(job_.shape, keys_of_set(job_.shape, job_.seed, key_set));
}

RoutedProbes NeedleSource::route(LoadedKeys& keys, std::int64_t key_set, std::size_t kind,
                                 const std::vector<QueryChunk>& chunks) const {
    const std::int64_t topk = *std::max_element(topks(kind).begin(), topks(kind).end());
    const sim::NeedleQueries queries =
        queries_of_set(job_, job_.kinds[kind], segments_of(chunks, job_.shape.block_size), key_set);
    const auto count = static_cast<std::size_t>(queries.count());
    RoutedProbes probes;
    probes.kept.resize(count);
    probes.selection.assign(count * static_cast<std::size_t>(topk - 1), std::numeric_limits<std::int32_t>::min());
    keys.route_needles(chunks, queries, topk, probes.selection, probes.kept);
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t needle = queries.slots[i * static_cast<std::size_t>(queries.cluster_size)];
        probes.targets.push_back(needle / job_.shape.block_size);
    }
    return probes;
}

std::optional<analysis::HitProbability> NeedleSource::expectation(std::size_t kind, std::size_t topk,
                                                                  std::int64_t candidates) const {
    const analysis::MissCurve* const curve = curves_.at(kind).at(topk);
    return curve == nullptr ? std::nullopt : std::optional(curve->at(candidates));
}

}  // namespace mobalab::experiments
