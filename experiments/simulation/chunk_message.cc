#include "experiments/simulation/chunk_message.h"

#include <cstdint>
#include <span>
#include <stdexcept>
#include <utility>

#include "experiments/base/number_bytes.h"

namespace mobalab::experiments {

std::string bytes_of(const std::vector<sim::TrialStats>& chunks) {
    std::vector<std::int64_t> numbers;
    for (const sim::TrialStats& stats : chunks) {
        for (const std::uint64_t count : {stats.trials, stats.misses, std::uint64_t{stats.rank_histogram.size()}}) {
            numbers.push_back(static_cast<std::int64_t>(count));
        }
        numbers.insert(numbers.end(), stats.rank_histogram.begin(), stats.rank_histogram.end());
    }
    return bytes_of(std::span<const std::int64_t>(numbers));
}

std::vector<sim::TrialStats> stats_of(const std::string& bytes) {
    const std::vector<std::int64_t> numbers = numbers_of(bytes);
    std::vector<sim::TrialStats> chunks;
    for (auto at = numbers.begin(); at != numbers.end();) {
        if (numbers.end() - at < 3 || at[2] < 0 || numbers.end() - at - 3 < at[2]) {
            throw std::runtime_error("a message between ranks is not whole");
        }
        sim::TrialStats stats{static_cast<std::uint64_t>(at[0]), static_cast<std::uint64_t>(at[1]), {}};
        stats.rank_histogram.assign(at + 3, at + 3 + at[2]);
        stats.check();
        at += 3 + at[2];
        chunks.push_back(std::move(stats));
    }
    return chunks;
}

}  // namespace mobalab::experiments
