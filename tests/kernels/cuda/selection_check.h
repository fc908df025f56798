#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace mobalab::kernels::testing_support {

/// Judges one row of a selection by the scores of its candidates in double precision, NaN and infinities included.
/// Returns what is wrong, empty when nothing is. Finite scores that differ by at most 2 * slack may change places; with
/// a slack of 0 the selection must be the one that the tie rule gives.
struct SelectionCheck {
    const std::vector<double>& score;  ///< of each candidate
    double slack = 0.0;

    std::string operator()(std::int64_t slots, const std::int32_t* selection, const float* scores) const {
        std::vector<std::int64_t> nan;
        std::int64_t numbers = 0;
        for (std::int64_t j = 0; j < candidates(); ++j) {
            if (std::isnan(of(j))) nan.insert(nan.begin(), j);  // the higher block first
            if (std::isinf(of(j)) ? of(j) > 0.0 : !std::isnan(of(j))) ++numbers;
        }
        const auto first = std::min<std::int64_t>(slots, static_cast<std::int64_t>(nan.size()));
        for (std::int64_t s = 0; s < first; ++s) {
            if (selection[s] != nan[static_cast<std::size_t>(s)]) return at(s, selection[s]) + "must be the NaN before";
            if (!std::isnan(scores[s])) return at(s, selection[s]) + "must have score NaN";
        }
        const std::int64_t expected = std::min(slots, first + numbers);
        for (std::int64_t s = expected; s < slots; ++s) {
            if (selection[s] != -1) return at(s, selection[s]) + "must be -1 past the candidates";
            if (scores[s] != -INFINITY) return at(s, selection[s]) + "must have score -inf";
        }
        return check_numbers(first, expected, selection, scores);
    }

private:
    std::int64_t candidates() const { return static_cast<std::int64_t>(score.size()); }
    double of(std::int64_t block) const { return score[static_cast<std::size_t>(block)]; }

    std::string check_numbers(std::int64_t first, std::int64_t end, const std::int32_t* selection,
                              const float* scores) const {
        std::vector<bool> chosen(score.size(), false);
        double worst = INFINITY;
        for (std::int64_t s = first; s < end; ++s) {
            const std::int64_t block = selection[s];
            if (block < 0 || block >= candidates()) {
                return at(s, block) + "is no candidate of " + std::to_string(candidates());
            }
            if (chosen[static_cast<std::size_t>(block)]) return at(s, block) + "is selected twice";
            chosen[static_cast<std::size_t>(block)] = true;
            if (!(of(block) == scores[s] || std::fabs(of(block) - scores[s]) <= slack)) {
                return at(s, block) + "has score " + std::to_string(scores[s]) + ", exactly " +
                       std::to_string(of(block));
            }
            if (of(block) > worst + 2 * slack) return at(s, block) + "is better than the one before it";
            if (s > first && scores[s] == scores[s - 1] && block > selection[s - 1]) {
                return at(s, block) + "breaks the tie rule";
            }
            worst = std::min(worst, of(block));
        }
        for (std::int64_t j = 0; j < candidates() && first < end; ++j) {
            if (std::isnan(of(j)) || chosen[static_cast<std::size_t>(j)]) continue;
            const bool tie_lost = slack == 0.0 && of(j) == worst && of(j) != -INFINITY && j > selection[end - 1];
            if (of(j) > worst + 2 * slack || tie_lost) {
                return "block " + std::to_string(j) + " (" + std::to_string(of(j)) +
                       ") was left out for a worse one (" + std::to_string(worst) + ")";
            }
        }
        return {};
    }
    static std::string at(std::int64_t slot, std::int64_t block) {
        return "slot " + std::to_string(slot) + ": block " + std::to_string(block) + " ";
    }
};

}  // namespace mobalab::kernels::testing_support
