#include "sim/engine/trial_stats.h"

#include <fmt/format.h>

#include <numeric>
#include <stdexcept>

namespace mobalab::sim {

TrialStats& TrialStats::operator+=(const TrialStats& other) {
    if (rank_histogram.size() != other.rank_histogram.size()) {
        throw std::logic_error(fmt::format("TrialStats: rank histograms of {} and {} bins cannot be added",
                                           rank_histogram.size(), other.rank_histogram.size()));
    }
    trials += other.trials;
    misses += other.misses;
    for (std::size_t r = 0; r < rank_histogram.size(); ++r) {
        rank_histogram[r] += other.rank_histogram[r];
    }
    return *this;
}

void TrialStats::check() const {
    if (misses > trials) {
        throw std::logic_error(fmt::format("TrialStats: {} misses in {} trials", misses, trials));
    }
    const auto sum = std::accumulate(rank_histogram.begin(), rank_histogram.end(), std::uint64_t{0});
    if (!rank_histogram.empty() && sum != trials) {
        throw std::logic_error(fmt::format("TrialStats: the rank histogram counts {} of {} trials", sum, trials));
    }
}

}  // namespace mobalab::sim
