#include "experiments/predict/head_scores.h"

#include "experiments/base/check.h"

namespace mobalab::experiments {

std::vector<std::int64_t> prediction_rows(std::int64_t q_start, const std::vector<bool>& measured) {
    std::vector<std::int64_t> free;
    for (std::size_t row = 0; row < measured.size(); ++row) {
        if (!measured[row] && q_start + static_cast<std::int64_t>(row) >= 2) {
            free.push_back(static_cast<std::int64_t>(row));
        }
    }
    const auto count = static_cast<std::int64_t>(free.size());
    if (count < fewest_prediction_rows) {
        return {};
    }
    const std::int64_t wanted = std::min(count, most_prediction_rows);
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < wanted; ++i) {
        rows.push_back(free[static_cast<std::size_t>((2 * i + 1) * count / (2 * wanted))]);
    }
    return rows;
}

HeadScores head_scores(const Trace& trace, std::int64_t layer, std::int64_t head, std::span<const std::int64_t> rows) {
    using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const TraceInfo& info = trace.info();
    const std::vector<float> q = trace.queries(layer, head).to_float();
    const std::vector<float> k = trace.keys(layer, head / (info.query_heads / info.key_heads)).to_float();
    const Eigen::Map<const Rows> all_queries(q.data(), info.queries, info.head_dim);
    const Eigen::Map<const Rows> keys(k.data(), info.keys, info.head_dim);

    HeadScores scores;
    Rows queries(static_cast<Eigen::Index>(rows.size()), info.head_dim);
    for (std::size_t r = 0; r < rows.size(); ++r) {
        queries.row(static_cast<Eigen::Index>(r)) = all_queries.row(rows[r]) * static_cast<float>(info.scale);
        scores.positions.push_back(info.q_start + rows[r]);
    }
    scores.logits.noalias() = queries * keys.topRows(scores.positions.back() + 1).transpose();
    if (!scores.logits.allFinite()) {
        throw KernelError("q . k of the trace is beyond fp32; nearest valid choice: queries and keys of model size");
    }
    return scores;
}

}  // namespace mobalab::experiments
