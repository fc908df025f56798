#pragma once

#include <cstdint>
#include <vector>

namespace mobalab::sim {

/// Mergeable counts of one point: the only thing samplers produce and the only thing that is merged or stored.
struct TrialStats {
    std::uint64_t trials = 0;
    std::uint64_t misses = 0;  ///< trials whose signal block was not routed
    /// rank_histogram[r] = trials in which exactly r noise blocks beat the signal block, r < size; the last bin counts
    /// every larger rank. Sum equals trials. Empty when the backend does not know ranks.
    std::vector<std::uint64_t> rank_histogram;

    /// Adds counts; throws std::logic_error when the histograms have different sizes.
    TrialStats& operator+=(const TrialStats& other);

    /// Throws std::logic_error when an invariant is broken (misses > trials, histogram sum != trials).
    void check() const;

    friend bool operator==(const TrialStats&, const TrialStats&) = default;
};

}  // namespace mobalab::sim
