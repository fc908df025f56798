#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "experiments/advise/evidence.h"

namespace mobalab::experiments {

/// What limits the choice; exactly one of them.
struct Budget {
    enum class Kind {
        keys,          ///< at most `amount` keys a query: B k
        milliseconds,  ///< at most `amount` milliseconds of the kernel table
        recall,        ///< the fewest keys whose answer is at least `amount`, at the low end of its interval
    };
    Kind kind = Kind::keys;
    double amount = 0.0;
};

/// What a candidate costs: milliseconds where the budget is in them, else keys. NaN where that is not known.
double cost_of(const Candidate& candidate, const Budget& budget);

/// A candidate within the budget that the chosen one cannot be told from: their intervals overlap.
struct Rival {
    std::size_t candidate;
    std::int64_t heads_ahead;   ///< heads on which the chosen one recalls more
    std::int64_t heads_behind;  ///< and less
};

/// What becomes of the chosen setting where some heads keep dense attention.
struct DenseHeads {
    std::vector<std::size_t> heads;  ///< in Evidence::heads: high end of the recall under the threshold
    Estimate recall;                 ///< mean over all heads, dense ones at 1
    double keys = unknown;           ///< mean over all heads that the last query attends to, dense ones at N
};

/// Indices are those of Evidence::candidates.
struct Advice {
    /// By cost: what no other that can be advised beats in answer without costing more. Equals in both are all there.
    std::vector<std::size_t> frontier;
    std::optional<std::size_t> chosen = {};   ///< none: the budget leaves nothing
    std::vector<Rival> rivals = {};           ///< the best first
    std::optional<std::size_t> nearest = {};  ///< nothing chosen: what comes nearest to the budget, if it has a cost
    std::optional<std::size_t> best_reference = {};  ///< best of what cannot be advised, with as many keys at most as
                                                     ///< the chosen one; not the oracle
    std::optional<std::size_t> oracle = {};          ///< the most that blocks can hold, likewise
    DenseHeads dense = {};                           ///< of the chosen one
};

/// Chosen is the best answer within a budget of cost, the lowest cost within one of recall; among equals the other of
/// the two decides, then the order of the candidates. `dense_below`: heads whose recall's high end is under it should
/// stay dense.
Advice advise(const Evidence& evidence, const Budget& budget, double dense_below);

}  // namespace mobalab::experiments
