#include "analysis/top_k.h"

#include <algorithm>
#include <cmath>

#include "analysis/binomial_tail.h"
#include "analysis/log_integral.h"
#include "analysis/log_space.h"
#include "analysis/normal_law.h"
#include "analysis/score_piece.h"

namespace mobalab::analysis {
namespace {

enum class Outcome { hit, miss };

/// Normal approximation of the K-th largest of n noise scores: a place to start, never a result.
/// Source: David and Nagaraja, Order Statistics, section 4.6, with Blom's plotting position.
struct Threshold {
    double mean;
    double sd;
};

Threshold approximate_threshold(const TopKProblem& problem) {
    const auto n = static_cast<double>(problem.noise_blocks);
    const double p = (static_cast<double>(problem.slots) - 0.375) / (n + 0.25);
    const double z = normal_upper_quantile(p);
    const double sd = std::sqrt(p * (1.0 - p) / (n + 2.0)) * std::exp(-log_normal_density(z));
    return {problem.noise_mean + problem.noise_sd * z, problem.noise_sd * sd};
}

class Integrator {
public:
    Integrator(const TopKProblem& problem, Form form)
        : problem_(problem),
          form_(form),
          binomial_(problem.noise_blocks, problem.slots),
          slots_(static_cast<double>(problem.slots)),
          others_(static_cast<double>(problem.noise_blocks - problem.slots)),
          log_order_constant_(log_binomial_coefficient(problem.noise_blocks, problem.slots) + std::log(slots_)) {}

    double log_probability(Outcome outcome) const {
        double low = form_ == Form::noise_first ? problem_.noise_low : problem_.signal_low;
        double high = form_ == Form::noise_first ? problem_.noise_high : problem_.signal_high;
        // Where the other factor is exactly zero there is nothing to integrate.
        if (outcome == Outcome::miss) {
            low = std::max(low, problem_.signal_low);
            high = std::min(high, problem_.noise_high);
        } else {
            low = std::max(low, problem_.noise_low);
            high = std::min(high, problem_.signal_high);
        }
        if (!(low < high)) return log_zero;
        double total = log_zero;
        double from = low;
        for (const double knot : problem_.knots) {
            if (knot <= from || knot >= high) continue;
            total = log_sum_exp(total, piece_integral(outcome, Piece(from, knot)));
            from = knot;
        }
        return std::min(0.0, log_sum_exp(total, piece_integral(outcome, Piece(from, high))));
    }

private:
    double log_integrand(Outcome outcome, const Score& score) const {
        const LogLaw noise = problem_.noise->at(score);
        const LogLaw signal = problem_.signal->at(score);
        if (form_ == Form::signal_first) {
            const LogTails rivals = binomial_.at(noise.upper, noise.lower);
            return signal.density + (outcome == Outcome::miss ? rivals.upper : rivals.lower);
        }
        // A factor to the power 0 is 1 even where its logarithm is -inf.
        const double above = slots_ > 1.0 ? (slots_ - 1.0) * noise.upper : 0.0;
        const double below = others_ > 0.0 ? others_ * noise.lower : 0.0;
        return log_order_constant_ + above + below + noise.density +
               (outcome == Outcome::miss ? signal.lower : signal.upper);
    }

    double piece_integral(Outcome outcome, const Piece& piece) const {
        const auto [guess, spread] = start(outcome);
        const auto [v, scale] = piece.locate(guess, spread);
        return log_integral([&](double u) { return log_integrand(outcome, piece.score(u)) + piece.log_jacobian(u); }, v,
                            scale);
    }

    /// Where the integrand peaks if both factors were normal.
    std::pair<double, double> start(Outcome outcome) const {
        const Threshold threshold = approximate_threshold(problem_);
        const bool noise_first = form_ == Form::noise_first;
        const double centre = noise_first ? threshold.mean : problem_.signal_mean;
        const double spread = noise_first ? threshold.sd : problem_.signal_sd;
        const double other = noise_first ? problem_.signal_mean : threshold.mean;
        const double other_spread = noise_first ? problem_.signal_sd : threshold.sd;
        const bool miss = outcome == Outcome::miss;
        const bool likely = noise_first == miss ? centre >= other : centre <= other;
        if (likely || !(other_spread > 0.0)) return {centre, spread};
        const double share = spread * spread / (spread * spread + other_spread * other_spread);
        return {centre + share * (other - centre), spread * std::sqrt(1.0 - share)};
    }

    const TopKProblem& problem_;
    Form form_;
    BinomialTail binomial_;
    double slots_;
    double others_;
    double log_order_constant_;
};

}  // namespace

LogHitMiss solve_top_k(const TopKProblem& problem, std::optional<Form> form) {
    const Threshold threshold = approximate_threshold(problem);
    const Form chosen = form.value_or(problem.signal_sd >= threshold.sd ? Form::noise_first : Form::signal_first);
    const Integrator integrator(problem, chosen);
    constexpr double log_half = -0.6931471805599453;
    const bool miss_first = problem.signal_mean >= threshold.mean;
    const double first = integrator.log_probability(miss_first ? Outcome::miss : Outcome::hit);
    if (first <= log_half) {
        const double other = log_one_minus_exp(first);
        return miss_first ? LogHitMiss{other, first} : LogHitMiss{first, other};
    }
    const double second = integrator.log_probability(miss_first ? Outcome::hit : Outcome::miss);
    const double complement = log_one_minus_exp(second);
    return miss_first ? LogHitMiss{second, complement} : LogHitMiss{complement, second};
}

}  // namespace mobalab::analysis
