#pragma once

#include <memory>
#include <string>
#include <vector>

#include "analysis/text_keys.h"
#include "experiments/probe/needle_probe.h"
#include "experiments/probe/probe_source.h"

namespace mobalab::experiments {

/// Needles in a text (model text, analysis/text_keys.h) as a source of probes. A key set is the keys of one text; every
/// probe has its own query, whose needle is a token drawn from the candidates, before any key is looked at. All stand
/// in the last block, at places that are each uniform in it, as the question has them: the simulation of the point is
/// of exactly these probes. Theory knows no exact probability.
class TextSource : public ProbeSource {
public:
    /// Of a job with `text`.
    explicit TextSource(ProbeJob job);

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
    analysis::TextKeys keys_;
};

/// Splits `trials` probes of a point of model text over key sets; `key_sets` 0 chooses their number. Probes of one text
/// share its few effective dimensions and its slow changes, so that a set has few of them.
ProbeBudget split_text_probes(std::int64_t trials, std::int64_t key_sets);

/// Throws InputError where a key set would not fit: more than 2^31 coordinates.
void check_text_job(const ProbeJob& job);

}  // namespace mobalab::experiments
