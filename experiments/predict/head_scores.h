#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <vector>

#include "experiments/trace/trace.h"

namespace mobalab::experiments {

/// scale q . k of some rows of one head with every key up to the last of them: what predictions are made from.
struct HeadScores {
    Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>
        logits;                           ///< [rows, keys]; keys behind a row's own position mean nothing
    std::vector<std::int64_t> positions;  ///< of the rows, ascending, each at least 2
};

/// Rows that predictions are made from: at most this many of a head, evenly spread.
inline constexpr std::int64_t most_prediction_rows = 512;
/// And at least so many.
inline constexpr std::int64_t fewest_prediction_rows = 64;

/// Of rows 0 ... queries - 1 of a trace whose first stands at q_start, at most most_prediction_rows evenly spread over
/// those whose `measured` is false and whose position is at least 2. Empty where there are fewer than
/// fewest_prediction_rows of them.
std::vector<std::int64_t> prediction_rows(std::int64_t q_start, const std::vector<bool>& measured);

/// Throws FileError, and KernelError where a q . k is no finite number in fp32.
HeadScores head_scores(const Trace& trace, std::int64_t layer, std::int64_t head, std::span<const std::int64_t> rows);

}  // namespace mobalab::experiments
