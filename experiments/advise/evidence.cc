#include "experiments/advise/evidence.h"

#include <fmt/format.h>

#include "analysis/routing_point.h"

namespace mobalab::experiments {

std::string to_string(const Setting& setting) {
    return fmt::format("{}{}, B {}, k {}", setting.scorer, setting.keep_first ? " with block 0 kept" : "",
                       setting.block_size, setting.topk);
}

bool can_be_advised(const std::string& scorer) {
    try {
        return analysis::parse_scorer(scorer).kind != analysis::ScorerKind::random;
    } catch (const analysis::InputError&) {
        return false;
    }
}

bool leaves_a_choice(const Setting& setting, std::int64_t seq_len) {
    return setting.topk > 1 && setting.topk < analysis::num_blocks(seq_len, setting.block_size);
}

Estimate Candidate::answer() const {
    return heads.empty() ? Estimate{needle_hit, needle_hit, needle_hit} : recall;
}

Estimate mean_estimate(const std::vector<Estimate>& estimates) {
    Estimate mean{0.0, 0.0, 0.0};
    for (const Estimate& estimate : estimates) {
        mean.value += estimate.value;
        mean.low += estimate.low;
        mean.high += estimate.high;
    }
    const auto count = static_cast<double>(estimates.size());
    return {mean.value / count, mean.low / count, mean.high / count};
}

}  // namespace mobalab::experiments
