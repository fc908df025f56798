#pragma once

#include <memory>
#include <string>
#include <vector>

#include "analysis/miss_curve.h"
#include "experiments/probe/needle_probe.h"
#include "experiments/probe/probe_source.h"

namespace mobalab::experiments {

/// Planted needles (needle_probe.h) as a source of probes.
class NeedleSource : public ProbeSource {
public:
    /// `curves`: what other sources have computed already is not computed again.
    explicit NeedleSource(ProbeJob job, std::shared_ptr<analysis::MissCurves> curves = nullptr);

    std::string identity() const override;
    const ProbeShape& shape() const override { return job_.shape; }
    std::int64_t key_sets() const override { return job_.budget.key_sets; }
    std::size_t kinds() const override { return job_.kinds.size(); }
    const std::vector<std::int64_t>& topks(std::size_t kind) const override { return job_.kinds.at(kind).topks; }
    std::vector<QueryChunk> chunks(std::int64_t key_set) const override;
    std::unique_ptr<LoadedKeys> load(const KernelUnderTest& kernel, std::int64_t key_set) const override;
    RoutedProbes route(LoadedKeys& keys, std::int64_t key_set, std::size_t kind,
                       const std::vector<QueryChunk>& chunks) const override;
    std::optional<analysis::HitProbability> expectation(std::size_t kind, std::size_t topk,
                                                        std::int64_t candidates) const override;

private:
    ProbeJob job_;
    std::shared_ptr<analysis::MissCurves> all_curves_;
    std::vector<std::vector<const analysis::MissCurve*>> curves_;  ///< [kind][topk]; null: no theory
};

}  // namespace mobalab::experiments
