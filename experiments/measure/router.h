#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "kernels/scorer.h"

namespace mobalab::experiments {

/// What one pass over q . k knows of a candidate block of a row.
struct BlockView {
    std::int64_t block = 0;
    std::int64_t keys = 0;     ///< in the block
    double scale = 0.0;        ///< of q . k in the softmax
    double sum = 0.0;          ///< of z = q . k
    double sum_squares = 0.0;  ///< of z^2
    double mass = 0.0;         ///< of the row's softmax
};

/// Who chooses blocks: a scorer of the kernels, or a reference router that sees what no kernel does.
struct Router {
    std::string_view name;
    std::optional<kernels::ScorerKind> scorer = {};  ///< of the kernels; kernels::route() routes
    double (*score)(const BlockView&) = nullptr;     ///< of a reference router; equal scores: the higher block wins
    bool scored = true;  ///< scores say something of the block's keys: margins, score statistics are defined

    /// Routes at random: masses and hits are known as expectations.
    bool by_chance() const { return scorer && !scored; }
};

/// The scorers of the kernels in their order, then the reference routers in that of routers/routers.h.
const std::vector<Router>& routers();

/// nullptr: no router has that name.
const Router* find_router(std::string_view name);

}  // namespace mobalab::experiments
