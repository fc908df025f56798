#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/head_tensors.h"

namespace mobalab::experiments::testing_support {

/// How far two meters may be apart on one head. What follows from sums of exact products is bounded row by row; choices
/// between near ties are counted.
struct MeterTolerance {
    double mass = 0.0;           ///< of any mass
    double affinity = 0.0;       ///< of q . k, for needles that are near ties
    double output = 0.0;         ///< of |out - dense|
    double share_of_rows = 0.0;  ///< rows whose blocks or score statistics may differ

    /// Rows that may: none of a few.
    static double rows_allowed(double share, std::size_t rows) { return std::floor(share * static_cast<double>(rows)); }
};

/// q . k and norms of a head in double precision.
class ExactHead {
public:
    explicit ExactHead(const HeadTensors& head)
        : head_dim_(head.q.head_dim), q_(head.q.to_float()), k_(head.k.to_float()), v_(head.v.to_float()) {}

    double affinity(std::int64_t row, std::int64_t key) const {
        double sum = 0.0;
        for (std::int64_t c = 0; c < head_dim_; ++c) sum += double{at(q_, row, c)} * double{at(k_, key, c)};
        return sum;
    }
    /// Largest |q| |k|: what rounding errors of q . k are proportional to.
    double largest_product() const { return largest_norm(q_, head_dim_) * largest_norm(k_, head_dim_); }
    double largest_value(std::int64_t value_dim) const { return largest_norm(v_, value_dim); }

private:
    float at(const std::vector<float>& rows, std::int64_t row, std::int64_t c) const {
        return rows[static_cast<std::size_t>(row * head_dim_ + c)];
    }
    static double largest_norm(const std::vector<float>& rows, std::int64_t width) {
        double largest = 0.0;
        for (std::size_t row = 0; row < rows.size(); row += static_cast<std::size_t>(width)) {
            double sum = 0.0;
            for (std::size_t c = row; c < row + static_cast<std::size_t>(width); ++c) sum += double{rows[c]} * rows[c];
            largest = std::max(largest, std::sqrt(sum));
        }
        return largest;
    }

    std::int64_t head_dim_;
    std::vector<float> q_, k_, v_;
};

/// Tolerances for kernels that sum exact products in fp32 and attend in the dtype of the tensors: fp32 sums of
/// head_dim products err by less than 2 2^-24 |q| |k| on each side; 16-bit weights and outputs by 2^-8 (bf16) or 2^-11
/// (fp16) of the values, twice, and queries that were rescaled by as much of scale q . k.
inline MeterTolerance tolerance_of(const HeadTensors& head, const ExactHead& exact) {
    const double product = exact.largest_product(), ulp = std::ldexp(1.0, -24);
    const bool bf16 = head.q.dtype == kernels::DataType::bf16;
    const double rounding = std::ldexp(1.0, bf16 ? -8 : -11);
    const bool rescaled = static_cast<float>(head.scale * std::sqrt(static_cast<double>(head.q.head_dim))) != 1.0F;
    MeterTolerance tolerance;
    tolerance.affinity = 4.0 * ulp * product;
    tolerance.mass = 1e-6 + head.scale * tolerance.affinity;
    tolerance.share_of_rows = 0.03;
    if (head.v.rows > 0) {
        tolerance.output = exact.largest_value(head.v.head_dim) *
                           (2.0 * rounding + 2.0 * tolerance.mass + (rescaled ? rounding * head.scale * product : 0.0));
    }
    return tolerance;
}

/// What is wrong, one line each, the first few of a kind.
class Complaints {
public:
    void add(const std::string& line) {
        if (lines_.size() < 12) lines_.push_back(line);
    }
    std::string text() const {
        std::string all;
        for (const std::string& line : lines_) all += line + "\n";
        return all;
    }

private:
    std::vector<std::string> lines_;
};

inline std::string where(const std::string& name, std::size_t row, double seen, double expected) {
    return name + " of row " + std::to_string(row) + ": " + std::to_string(seen) + ", expected " +
           std::to_string(expected);
}

/// Every entry within `most` of the expected one. NaN equals nothing.
inline void compare_all(const std::string& name, const std::vector<float>& seen, const std::vector<float>& expected,
                        double most, Complaints& complaints) {
    if (seen.size() != expected.size()) {
        complaints.add(name + ": " + std::to_string(seen.size()) + " rows, expected " +
                       std::to_string(expected.size()));
        return;
    }
    for (std::size_t row = 0; row < seen.size(); ++row) {
        if (!(std::abs(double{seen[row]} - double{expected[row]}) <= most)) {
            complaints.add(where(name, row, seen[row], expected[row]));
        }
    }
}

/// All but `share` of the entries within `most` of the expected one, relative to floor + |expected|;
/// NaN where NaN is expected.
inline void compare_most(const std::string& name, const std::vector<float>& seen, const std::vector<float>& expected,
                         double most, double share, Complaints& complaints, double floor = 1.0) {
    if (seen.size() != expected.size()) {
        complaints.add(name + ": " + std::to_string(seen.size()) + " rows, expected " +
                       std::to_string(expected.size()));
        return;
    }
    std::size_t wrong = 0, first = 0;
    for (std::size_t row = 0; row < seen.size(); ++row) {
        const bool same = std::isnan(expected[row])
                              ? std::isnan(seen[row])
                              : std::abs(double{seen[row]} - expected[row]) <= most * (floor + std::abs(expected[row]));
        if (!same && wrong++ == 0) first = row;
    }
    if (static_cast<double>(wrong) > MeterTolerance::rows_allowed(share, seen.size())) {
        complaints.add(std::to_string(wrong) + " rows: " + where(name, first, seen[first], expected[first]));
    }
}

/// The same keys, or keys whose q . k is as large as the exact one says within the tolerance.
inline void compare_needles(const std::string& name, const std::vector<std::int32_t>& seen,
                            const std::vector<std::int32_t>& expected, const ExactHead& exact, double tolerance,
                            Complaints& complaints) {
    if (seen.size() != expected.size()) {
        complaints.add(name + ": sizes differ");
        return;
    }
    for (std::size_t row = 0; row < seen.size(); ++row) {
        if (seen[row] == expected[row]) continue;
        const auto number = static_cast<std::int64_t>(row);
        const bool near_tie =
            seen[row] >= 0 && expected[row] >= 0 &&
            std::abs(exact.affinity(number, seen[row]) - exact.affinity(number, expected[row])) <= tolerance;
        if (!near_tie) complaints.add(where(name, row, seen[row], expected[row]));
    }
}

inline bool same_blocks(const RowOutcomes& a, const RowOutcomes& b, std::size_t row) {
    const auto slots = static_cast<std::size_t>(a.slots);
    std::vector<std::int32_t> of_a(a.selection.begin() + static_cast<std::ptrdiff_t>(row * slots),
                                   a.selection.begin() + static_cast<std::ptrdiff_t>((row + 1) * slots));
    std::vector<std::int32_t> of_b(b.selection.begin() + static_cast<std::ptrdiff_t>(row * slots),
                                   b.selection.begin() + static_cast<std::ptrdiff_t>((row + 1) * slots));
    std::sort(of_a.begin(), of_a.end());
    std::sort(of_b.begin(), of_b.end());
    return of_a == of_b;
}

/// Of the rows that routed the same blocks; the others are counted.
inline void compare_setting(const std::string& name, const RowOutcomes& seen, const RowOutcomes& expected,
                            std::size_t rows, const MeterTolerance& tolerance, Complaints& complaints) {
    if (seen.slots != expected.slots || seen.selection.size() != expected.selection.size() ||
        seen.routed_mass.size() != rows || seen.routed_mass_no0.size() != rows ||
        seen.output_error.size() != expected.output_error.size() ||
        seen.rounding_changed.size() != expected.rounding_changed.size()) {
        complaints.add(name + ": sizes differ");
        return;
    }
    std::size_t other_blocks = 0, other_rounding = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        if (!seen.rounding_changed.empty() && seen.rounding_changed[row] != expected.rounding_changed[row]) {
            ++other_rounding;
        }
        if (!same_blocks(seen, expected, row)) {
            ++other_blocks;
            continue;
        }
        const auto close = [&](const std::string& what, double a, double b, double most) {
            if (!(std::abs(a - b) <= most)) complaints.add(name + ", " + where(what, row, a, b));
        };
        close("routed_mass", seen.routed_mass[row], expected.routed_mass[row], tolerance.mass);
        close("routed_mass_no0", seen.routed_mass_no0[row], expected.routed_mass_no0[row], tolerance.mass);
        if (!seen.output_error.empty()) {
            close("output error", std::sqrt(seen.output_error[row]), std::sqrt(expected.output_error[row]),
                  tolerance.output);
        }
    }
    const double most = MeterTolerance::rows_allowed(tolerance.share_of_rows, rows);
    if (static_cast<double>(other_blocks) > most) {
        complaints.add(name + ": " + std::to_string(other_blocks) + " rows of " + std::to_string(rows) +
                       " route other blocks");
    }
    if (static_cast<double>(other_rounding) > most) {
        complaints.add(name + ": " + std::to_string(other_rounding) + " rows differ in rounding_changed");
    }
    compare_most(name + ": margin", seen.margin, expected.margin, 0.05, tolerance.share_of_rows, complaints);
}

inline void compare_scores(const std::string& name, const ScoreOutcomes& seen, const ScoreOutcomes& expected,
                           double share, Complaints& complaints) {
    compare_most(name + ": deviation", seen.deviation, expected.deviation, 1e-3, share, complaints, 0.0);
    compare_most(name + ": needle_score", seen.needle_score, expected.needle_score, 0.02, share, complaints);
    compare_most(name + ": mass_score", seen.mass_score, expected.mass_score, 0.02, share, complaints);
    compare_most(name + ": mass_score_squared", seen.mass_score_squared, expected.mass_score_squared, 0.05, share,
                 complaints);
    if (seen.distances.count != expected.distances.count) {
        complaints.add(name + ": counts by distance differ");
        return;
    }
    if (seen.distances.sum.size() != expected.distances.sum.size()) {
        complaints.add(name + ": sums by distance are of other lengths");
        return;
    }
    for (std::size_t i = 0; i < seen.distances.sum.size(); ++i) {
        const double most = 0.01 * (1.0 + static_cast<double>(expected.distances.count[i]));
        if (!(std::abs(seen.distances.sum[i] - expected.distances.sum[i]) <= most)) {
            complaints.add(name + ", " + where("sum by distance", i, seen.distances.sum[i], expected.distances.sum[i]));
        }
    }
}

inline std::string name_of(const ScoreSetting& score) {
    return score.router + (score.sub_blocks > 1 ? "-" + std::to_string(score.sub_blocks) : "") +
           (score.centroids == kernels::Centroids::fp32 ? " (fp32)" : "") + " B " + std::to_string(score.block_size);
}

inline std::string name_of(const RouteSetting& setting) {
    return name_of(setting.score) + " k " + std::to_string(setting.topk) + (setting.keep_first ? " keep_first" : "");
}

/// Empty: the outcomes agree.
inline std::string difference(const HeadOutcomes& seen, const HeadOutcomes& expected,
                              std::span<const RouteSetting> settings, const HeadTensors& head) {
    const ExactHead exact(head);
    const MeterTolerance tolerance = tolerance_of(head, exact);
    Complaints complaints;
    compare_needles("distant_key", seen.distant_key, expected.distant_key, exact, tolerance.affinity, complaints);
    std::vector<float> norms = seen.dense_norm, expected_norms = expected.dense_norm;
    for (std::vector<float>* all : {&norms, &expected_norms}) {
        for (float& norm : *all) norm = std::sqrt(norm);
    }
    const double dense = head.v.rows > 0 ? exact.largest_value(head.v.head_dim) * (1e-4 + 2.0 * tolerance.mass) : 0.0;
    compare_all("|dense|", norms, expected_norms, dense, complaints);
    for (const auto& [block_size, blocks] : expected.blocks) {
        const BlockOutcomes& of_seen = seen.blocks.at(block_size);
        const std::string name = "B " + std::to_string(block_size) + ": ";
        compare_all(name + "past_mass", of_seen.past_mass, blocks.past_mass, tolerance.mass, complaints);
        compare_all(name + "past_mass_no0", of_seen.past_mass_no0, blocks.past_mass_no0, tolerance.mass, complaints);
        compare_all(name + "first_mass", of_seen.first_mass, blocks.first_mass, tolerance.mass, complaints);
        compare_all(name + "first_mass_no0", of_seen.first_mass_no0, blocks.first_mass_no0, tolerance.mass, complaints);
        compare_needles(name + "needle_key", of_seen.needle_key, blocks.needle_key, exact, tolerance.affinity,
                        complaints);
    }
    for (const auto& [score, outcomes] : expected.scores) {
        if (!seen.scores.contains(score)) {
            complaints.add(name_of(score) + ": no scores");
            continue;
        }
        compare_scores(name_of(score), seen.scores.at(score), outcomes, tolerance.share_of_rows, complaints);
    }
    if (seen.scores.size() != expected.scores.size() || seen.settings.size() != settings.size()) {
        complaints.add("other settings");
    }
    for (std::size_t i = 0; i < std::min(settings.size(), seen.settings.size()); ++i) {
        compare_setting(name_of(settings[i]), seen.settings[i], expected.settings[i],
                        static_cast<std::size_t>(expected.rows), tolerance, complaints);
    }
    return complaints.text();
}

}  // namespace mobalab::experiments::testing_support
