#include "analysis/measured_scores/candidate_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

constexpr std::size_t most_asked = 64;
constexpr double apart = 1.04;

std::map<std::int64_t, double> added_up(std::span<const CandidateRows> rows) {
    std::map<std::int64_t, double> weights;
    for (const CandidateRows& row : rows) {
        if (row.candidates < 1) {
            throw InputError(
                fmt::format("candidates = {}: must be at least 1; nearest valid value is 1", row.candidates));
        }
        if (!(row.rows > 0.0 && std::isfinite(row.rows))) {
            throw InputError(fmt::format("rows = {} (of {} candidates): must be positive and finite; for example 1",
                                         row.rows, row.candidates));
        }
        weights[row.candidates] += row.rows;
    }
    if (weights.empty()) throw InputError("rows = none: a mean needs at least one row with a candidate block");
    return weights;
}

/// What is asked for, ascending, both ends included.
std::vector<std::int64_t> asked_for(const std::map<std::int64_t, double>& weights) {
    std::vector<std::int64_t> asked;
    const std::int64_t last = weights.rbegin()->first;
    for (const auto& [candidates, weight] : weights) {
        const bool far = asked.empty() || static_cast<double>(candidates) >= apart * static_cast<double>(asked.back());
        if (weights.size() <= most_asked || far || candidates == last) asked.push_back(candidates);
    }
    return asked;
}

}  // namespace

double mean_over_rows(std::span<const CandidateRows> rows, const std::function<double(std::int64_t)>& hit) {
    const std::map<std::int64_t, double> weights = added_up(rows);
    const std::vector<std::int64_t> asked = asked_for(weights);
    std::vector<double> values(asked.size());
    std::transform(asked.begin(), asked.end(), values.begin(), hit);
    double sum = 0.0;
    double total = 0.0;
    std::size_t next = 0;
    for (const auto& [candidates, weight] : weights) {
        while (asked[next] < candidates) ++next;
        double value = values[next];
        if (asked[next] != candidates) {
            const double low = std::log(static_cast<double>(asked[next - 1]));
            const double high = std::log(static_cast<double>(asked[next]));
            const double share = (std::log(static_cast<double>(candidates)) - low) / (high - low);
            value = values[next - 1] + share * (values[next] - values[next - 1]);
        }
        sum += weight * value;
        total += weight;
    }
    return sum / total;
}

}  // namespace mobalab::analysis
