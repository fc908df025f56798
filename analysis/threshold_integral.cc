#include "analysis/threshold_integral.h"

#include <algorithm>
#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/log_integral.h"
#include "analysis/log_space.h"
#include "analysis/score_piece.h"

namespace mobalab::analysis {
namespace {

enum class Outcome { hit, miss };

constexpr double log_half = -0.6931471805599453;

class ThresholdIntegral {
public:
    explicit ThresholdIntegral(const ThresholdProblem& problem)
        : problem_(problem),
          count_(problem.noise_blocks, problem.slots),
          slots_(static_cast<double>(problem.slots)),
          others_(static_cast<double>(problem.noise_blocks - problem.slots)),
          log_constant_(log_binomial_coefficient(problem.noise_blocks, problem.slots) + std::log(slots_)) {}

    double log_probability(Outcome outcome) const {
        struct Bounded {
            double low, high, log_bound;
        };
        std::vector<Bounded> pieces;
        for (std::size_t i = 0; i + 1 < problem_.knots.size(); ++i) {
            const double low = problem_.knots[i];
            const double high = problem_.knots[i + 1];
            pieces.push_back({low, high, log_bound(outcome, low, high)});
        }
        std::sort(pieces.begin(), pieces.end(),
                  [](const Bounded& a, const Bounded& b) { return a.log_bound > b.log_bound; });
        constexpr double negligible = -37.0;  // 9e-17
        const double log_pieces = std::log(static_cast<double>(pieces.size()));
        double total = log_zero;
        for (const Bounded& piece : pieces) {
            if (piece.log_bound == log_zero || piece.log_bound + log_pieces < total + negligible) break;
            total = log_sum_exp(total, integral(outcome, Piece(piece.low, piece.high)));
        }
        return std::min(0.0, total);
    }

private:
    static double of(Outcome outcome, const LogLaw& signal) {
        return outcome == Outcome::miss ? signal.lower : signal.upper;
    }

    /// At least the log of the piece's part of the outcome's probability.
    double log_bound(Outcome outcome, double low, double high) const {
        const Score at_low{low, low, 0.0, high, high - low};
        const Score at_high{high, low, high - low, high, 0.0};
        const LogLaw noise_low = problem_.noise->at(at_low);
        const LogLaw noise_high = problem_.noise->at(at_high);
        const double threshold_above_low = count_.at(noise_low.upper, noise_low.lower).upper;
        const double threshold_below_high = count_.at(noise_high.upper, noise_high.lower).lower;
        return std::min(threshold_above_low, threshold_below_high) +
               of(outcome, problem_.signal->at(outcome == Outcome::miss ? at_high : at_low));
    }

    double log_integrand(Outcome outcome, const Score& score) const {
        const LogLaw noise = problem_.noise->at(score);
        // A factor to the power 0 is 1 even where its logarithm is -inf.
        const double above = slots_ > 1.0 ? (slots_ - 1.0) * noise.upper : 0.0;
        const double below = others_ > 0.0 ? others_ * noise.lower : 0.0;
        const double density = log_constant_ + above + below + noise.density;
        return density == log_zero ? log_zero : density + of(outcome, problem_.signal->at(score));
    }

    double integral(Outcome outcome, const Piece& piece) const {
        std::vector<Start> starts;
        for (const RoughPlace& signal : problem_.signals) {
            const RoughPlace place = peak_if_normal(outcome, signal);
            const auto [guess, scale] = piece.locate(place.mean, place.sd);
            starts.push_back({guess, scale});
        }
        return log_integral([&](double u) { return log_integrand(outcome, piece.score(u)) + piece.log_jacobian(u); },
                            starts);
    }

    /// Where threshold density times signal tail peaks if both were normal.
    RoughPlace peak_if_normal(Outcome outcome, const RoughPlace& signal) const {
        const RoughPlace& threshold = problem_.threshold;
        const bool likely = outcome == Outcome::miss ? threshold.mean >= signal.mean : threshold.mean <= signal.mean;
        if (likely || !(signal.sd > 0.0)) return threshold;
        const double share = threshold.sd * threshold.sd / (threshold.sd * threshold.sd + signal.sd * signal.sd);
        return {threshold.mean + share * (signal.mean - threshold.mean), threshold.sd * std::sqrt(1.0 - share)};
    }

    const ThresholdProblem& problem_;
    BinomialTail count_;
    double slots_;
    double others_;
    double log_constant_;
};

}  // namespace

LogHitMiss solve_by_threshold(const ThresholdProblem& problem) {
    const ThresholdIntegral integral(problem);
    const bool miss_first = problem.signals.front().mean >= problem.threshold.mean;
    const double first = integral.log_probability(miss_first ? Outcome::miss : Outcome::hit);
    const double smaller =
        first <= log_half ? first : integral.log_probability(miss_first ? Outcome::hit : Outcome::miss);
    const bool smaller_is_miss = (first <= log_half) == miss_first;
    const double larger = log_one_minus_exp(smaller);
    return smaller_is_miss ? LogHitMiss{larger, smaller} : LogHitMiss{smaller, larger};
}

}  // namespace mobalab::analysis
