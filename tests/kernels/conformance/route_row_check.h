#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace mobalab::kernels::testing_support {

/// Judges one row of a selection against scores in double precision of the same rounded inputs. Returns what is wrong,
/// empty when nothing is. `exact`: all scores are exact in fp32, so the selection must be the one that the tie rule
/// gives; otherwise blocks whose scores differ by less than rounding may change places.
struct RowCheck {
    std::int64_t head_dim = 0;
    std::int64_t slots = 0;
    bool exact = false;
    bool split = false;  ///< centroids scored as two 16-bit halves

    /// q: head_dim values. centroid(block): pointer to head_dim values. scores may be null.
    template <typename Centroid>
    std::string operator()(const float* q, std::int64_t candidates, const Centroid& centroid,
                           const std::int32_t* selection, const float* scores) const {
        std::vector<double> exact_score(static_cast<std::size_t>(candidates));
        double largest = 0.0;  // sum |q c|, the scale of rounding errors
        for (std::int64_t j = 0; j < candidates; ++j) {
            const float* c = centroid(j);
            double sum = 0.0, magnitude = 0.0;
            for (std::int64_t e = 0; e < head_dim; ++e) {
                const double product = static_cast<double>(q[e]) * static_cast<double>(c[e]);
                sum += product;
                magnitude += std::fabs(product);
            }
            exact_score[static_cast<std::size_t>(j)] = sum;
            largest = std::max(largest, magnitude);
        }
        // The tensor cores truncate when they align products; 2^-20 of the magnitude covers 128 additions.
        const double slack = exact ? 0.0 : largest * (split ? 0x1p-15 : 0x1p-20);
        const std::int64_t expected = std::min(slots, candidates);
        std::vector<bool> chosen(static_cast<std::size_t>(candidates), false);
        double worst = INFINITY;
        for (std::int64_t s = 0; s < slots; ++s) {
            const std::int64_t block = selection[s];
            if (s >= expected) {
                if (block != -1) return at(s, block) + "must be -1 past the candidates";
                if (scores != nullptr && !(scores[s] == -INFINITY)) return at(s, block) + "its score must be -inf";
                continue;
            }
            if (block < 0 || block >= candidates)
                return at(s, block) + "is no candidate of " + std::to_string(candidates);
            if (chosen[static_cast<std::size_t>(block)]) return at(s, block) + "is selected twice";
            chosen[static_cast<std::size_t>(block)] = true;
            const double score = exact_score[static_cast<std::size_t>(block)];
            if (scores != nullptr && !(std::fabs(scores[s] - score) <= slack)) {
                return at(s, block) + "has score " + std::to_string(scores[s]) + ", exactly " + std::to_string(score);
            }
            if (score > worst + 2 * slack) return at(s, block) + "is better than the one before it";
            const bool tied = exact ? score == worst : s > 0 && scores != nullptr && scores[s] == scores[s - 1];
            if (tied && block > selection[s - 1]) return at(s, block) + "breaks the tie rule";
            worst = std::min(worst, score);
        }
        for (std::int64_t j = 0; j < candidates && expected > 0; ++j) {
            if (chosen[static_cast<std::size_t>(j)]) continue;
            const double score = exact_score[static_cast<std::size_t>(j)];
            const bool tie_lost = exact && score == worst && j > selection[expected - 1];
            if (score > worst + 2 * slack || tie_lost) {
                return "block " + std::to_string(j) + " (" + std::to_string(score) +
                       ") was left out for a worse one (" + std::to_string(worst) + ")";
            }
        }
        return {};
    }

private:
    static std::string at(std::int64_t slot, std::int64_t block) {
        return "slot " + std::to_string(slot) + ": block " + std::to_string(block) + " ";
    }
};

}  // namespace mobalab::kernels::testing_support
