#include "analysis/measured_scores/standardised_hit.h"

#include <fmt/format.h>

#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/limits.h"
#include "analysis/normal_block_scores.h"
#include "analysis/normal_law.h"
#include "analysis/routing_point.h"
#include "analysis/top_k.h"

namespace mobalab::analysis {
namespace {

void check(const StandardisedSignal& signal, std::int64_t candidates, std::int64_t slots) {
    if (!std::isfinite(signal.a)) throw InputError(fmt::format("a = {}: must be finite; for example 0", signal.a));
    if (!(std::isfinite(signal.r) && signal.r >= 0.0)) {
        throw InputError(fmt::format("r = {}: must be finite and not negative; nearest valid value is 0", signal.r));
    }
    if (candidates < 1 || candidates > most_candidates) {
        throw InputError(fmt::format("candidates = {}: must be between 1 and {}; nearest valid value is {}", candidates,
                                     most_candidates, candidates < 1 ? 1 : most_candidates));
    }
    if (slots < 0) throw InputError(fmt::format("slots = {}: must be at least 0; nearest valid value is 0", slots));
}

}  // namespace

double hit_of_standardised(const StandardisedSignal& signal, std::int64_t candidates, std::int64_t slots) {
    check(signal, candidates, slots);
    if (slots == 0) return 0.0;
    if (slots >= candidates) return 1.0;
    const std::int64_t rivals = candidates - 1;
    if (signal.r == 0.0) {
        return std::exp(BinomialTail(rivals, slots).at(log_normal_upper(signal.a), log_normal_upper(-signal.a)).lower);
    }
    return std::exp(solve_top_k(normal_problem(rivals, slots, {.mean = signal.a, .sd = signal.r})).hit);
}

}  // namespace mobalab::analysis
