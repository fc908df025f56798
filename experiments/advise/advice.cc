#include "experiments/advise/advice.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace mobalab::experiments {
namespace {

using Indices = std::vector<std::size_t>;

class Adviser {
public:
    Adviser(const Evidence& evidence, const Budget& budget) : evidence_(evidence), budget_(budget) {}

    Advice advise(double dense_below) const {
        const Indices advisable =
            those([](const Candidate& candidate) { return can_be_advised(candidate.setting.scorer); });
        Advice advice{.frontier = frontier(advisable)};
        advice.chosen = choice(advisable);
        if (!advice.chosen) {
            advice.nearest = nearest(advisable);
            return advice;
        }
        advice.rivals = rivals(advisable, *advice.chosen);
        advice.dense = dense_heads(at(*advice.chosen), dense_below);
        const std::int64_t keys = at(*advice.chosen).setting.keys();
        advice.best_reference = best(those([&](const Candidate& other) {
            return !can_be_advised(other.setting.scorer) && other.setting.scorer != "oracle" &&
                   other.setting.keys() <= keys;
        }));
        advice.oracle = best(those(
            [&](const Candidate& other) { return other.setting.scorer == "oracle" && other.setting.keys() <= keys; }));
        return advice;
    }

private:
    const Candidate& at(std::size_t i) const { return evidence_.candidates[i]; }
    double cost(std::size_t i) const { return cost_of(at(i), budget_); }
    double value(std::size_t i) const { return at(i).answer().value; }

    Indices those(const std::function<bool(const Candidate&)>& wanted) const {
        Indices found;
        for (std::size_t i = 0; i < evidence_.candidates.size(); ++i) {
            if (wanted(at(i))) {
                found.push_back(i);
            }
        }
        return found;
    }

    bool within_budget(std::size_t i) const {
        if (budget_.kind == Budget::Kind::recall) {
            return at(i).answer().low >= budget_.amount;
        }
        return cost(i) <= budget_.amount;
    }

    /// The better answer where the budget is a cost, the lower cost where it is an answer; then the other of the two.
    bool is_better(std::size_t a, std::size_t b) const {
        const bool by_cost = budget_.kind == Budget::Kind::recall;
        if (by_cost && cost(a) != cost(b)) {
            return cost(a) < cost(b);
        }
        return value(a) != value(b) ? value(a) > value(b) : cost(a) < cost(b);
    }

    std::optional<std::size_t> choice(const Indices& among) const {
        std::optional<std::size_t> best;
        for (const std::size_t i : among) {
            if (within_budget(i) && (!best || is_better(i, *best))) {
                best = i;
            }
        }
        return best;
    }

    std::optional<std::size_t> best(const Indices& among) const {
        const auto found = std::max_element(among.begin(), among.end(),
                                            [&](std::size_t a, std::size_t b) { return value(a) < value(b); });
        return found == among.end() ? std::nullopt : std::optional(*found);
    }

    std::optional<std::size_t> nearest(const Indices& among) const {
        std::optional<std::size_t> best;
        for (const std::size_t i : among) {
            if (std::isnan(cost(i))) {
                continue;
            }
            const bool closer =
                !best || (budget_.kind == Budget::Kind::recall ? at(i).answer().low > at(*best).answer().low
                                                               : cost(i) < cost(*best));
            best = closer ? i : best;
        }
        return best;
    }

    Indices frontier(const Indices& among) const {
        Indices found;
        for (const std::size_t i : among) {
            const bool beaten =
                std::isnan(cost(i)) || std::any_of(among.begin(), among.end(), [&](std::size_t j) {
                    return cost(j) <= cost(i) && value(j) >= value(i) && (cost(j) < cost(i) || value(j) > value(i));
                });
            if (!beaten) {
                found.push_back(i);
            }
        }
        std::sort(found.begin(), found.end(), [&](std::size_t a, std::size_t b) { return cost(a) < cost(b); });
        return found;
    }

    /// Heads on which a recalls more.
    std::int64_t heads_ahead(const Candidate& a, const Candidate& b) const {
        std::int64_t ahead = 0;
        for (std::size_t h = 0; h < a.heads.size(); ++h) {
            ahead += a.heads[h].recall.value > b.heads[h].recall.value ? 1 : 0;
        }
        return ahead;
    }

    std::vector<Rival> rivals(const Indices& among, std::size_t chosen) const {
        std::vector<Rival> found;
        const Estimate best = at(chosen).answer();
        for (const std::size_t i : among) {
            const Estimate other = at(i).answer();
            // Where the fewest keys are asked for, only what takes as few of them is a rival.
            const bool as_cheap = budget_.kind != Budget::Kind::recall || cost(i) <= cost(chosen);
            if (i != chosen && within_budget(i) && as_cheap && other.high >= best.low && best.high >= other.low) {
                found.push_back({i, heads_ahead(at(chosen), at(i)), heads_ahead(at(i), at(chosen))});
            }
        }
        std::stable_sort(found.begin(), found.end(),
                         [&](const Rival& a, const Rival& b) { return value(a.candidate) > value(b.candidate); });
        return found;
    }

    DenseHeads dense_heads(const Candidate& chosen, double dense_below) const {
        DenseHeads dense;
        std::vector<Estimate> recalls;
        for (std::size_t h = 0; h < chosen.heads.size(); ++h) {
            const bool is_dense = chosen.heads[h].recall.high < dense_below;
            if (is_dense) {
                dense.heads.push_back(h);
            }
            recalls.push_back(is_dense ? Estimate{1.0, 1.0, 1.0} : chosen.heads[h].recall);
        }
        if (!recalls.empty()) {
            dense.recall = mean_estimate(recalls);
            const auto routed = static_cast<double>(recalls.size() - dense.heads.size());
            const auto n = static_cast<double>(evidence_.seq_len);
            const double keys = std::min(n, static_cast<double>(chosen.setting.keys()));
            dense.keys =
                (static_cast<double>(dense.heads.size()) * n + routed * keys) / static_cast<double>(recalls.size());
        }
        return dense;
    }

    const Evidence& evidence_;
    const Budget& budget_;
};

}  // namespace

double cost_of(const Candidate& candidate, const Budget& budget) {
    return budget.kind == Budget::Kind::milliseconds ? candidate.milliseconds
                                                     : static_cast<double>(candidate.setting.keys());
}

Advice advise(const Evidence& evidence, const Budget& budget, double dense_below) {
    return Adviser(evidence, budget).advise(dense_below);
}

}  // namespace mobalab::experiments
