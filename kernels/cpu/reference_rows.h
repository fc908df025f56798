#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "kernels/cpu/reference.h"
#include "kernels/cpu/sequences.h"

// What the files of the reference share.
namespace mobalab::kernels::reference {

using Vector = Eigen::Map<const Eigen::VectorXd>;

/// All rows of one head of `count` tokens from `begin`, [count, head_dim].
std::vector<double> gather(const Rows& rows, std::int64_t begin, std::int64_t count, std::int64_t head,
                           std::int64_t head_dim, int threads);

/// route() and attention_forward() of sequences whose summaries begin at Sequence::block_begin and whose keys are the
/// tokens from Sequence::k_begin on, wherever that is.
Routing route_sequences(const Problem& problem, const std::vector<cpu::Sequence>& sequences, const Rows& q,
                        const std::vector<double>& centroids, const Options& options = {});
Attention attend_sequences(const Problem& problem, const std::vector<cpu::Sequence>& sequences, const Rows& q,
                           const Rows& k, const Rows& v, const std::int32_t* selection, const Options& options = {});

/// A judged query: where its result goes and which row of its sequence it is.
struct Judged {
    std::int64_t output = 0, token = 0, row = 0;
};

/// The judged queries of one sequence.
std::vector<Judged> judged_in(const cpu::Sequence& sequence, const Options& options);

inline std::int64_t judged_count(const Problem& problem, const Options& options) {
    return options.queries.empty() ? problem.tokens_q() : static_cast<std::int64_t>(options.queries.size());
}

}  // namespace mobalab::kernels::reference
