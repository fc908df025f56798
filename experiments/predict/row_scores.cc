#include "experiments/predict/row_scores.h"

#include <algorithm>
#include <cmath>

namespace mobalab::experiments {

bool read_row(const HeadScores& scores, std::size_t row, RowScores& out) {
    const auto logits = scores.logits.row(static_cast<Eigen::Index>(row));
    out.position = scores.positions[row];
    const auto keys = static_cast<std::size_t>(out.position);
    out.x.assign(logits.data(), logits.data() + keys);

    double sum = 0.0;
    for (std::size_t i = 1; i < keys; ++i) sum += out.x[i];
    const double mean = sum / static_cast<double>(keys - 1);
    double squares = 0.0;
    for (std::size_t i = 1; i < keys; ++i) squares += (out.x[i] - mean) * (out.x[i] - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(keys - 1));
    if (!(deviation > 0.0)) return false;

    const double top = static_cast<double>(logits.head(out.position + 1).maxCoeff());
    out.mass_before.assign(keys + 1, 0.0);
    out.highest.assign(keys + 1, -1);
    for (std::size_t i = 0; i < keys; ++i) {
        out.mass_before[i + 1] = out.mass_before[i] + std::exp(out.x[i] - top);
        const std::int64_t best = out.highest[i];
        const bool higher = i > 0 && (best < 0 || out.x[i] > out.x[static_cast<std::size_t>(best)]);
        out.highest[i + 1] = higher ? static_cast<std::int64_t>(i) : best;
    }
    const double whole = out.mass_before.back() + std::exp(static_cast<double>(logits(out.position)) - top);
    for (double& mass : out.mass_before) mass /= whole;
    for (double& x : out.x) x = (x - mean) / deviation;
    return true;
}

}  // namespace mobalab::experiments
