#include "analysis/text_block_scores.h"

#include <algorithm>
#include <cmath>

#include "analysis/normal_law.h"
#include "analysis/poisson_binomial_cdf.h"
#include "analysis/text_draws.h"

namespace mobalab::analysis {
namespace {

using Complex = std::complex<double>;

constexpr std::size_t sobol_points = 4096;
constexpr std::int64_t most_blocks = 8192;      // some seconds a point
constexpr double forgotten = 32.0;              // memories that long ago are below 1e-13
constexpr double least_variance_share = 1e-14;  // of a block that is the needle alone

/// 1 + z + ... + z^(count - 1).
Complex geometric_sum(Complex z, std::int64_t count) {
    if (std::abs(1.0 - z) < 1e-12) return static_cast<double>(count);
    return (1.0 - std::pow(z, static_cast<double>(count))) / (1.0 - z);
}

/// Real part of conj(a) b: the product q.k of a pair.
double product(Complex a, Complex b) {
    return a.real() * b.real() + a.imag() * b.imag();
}

/// F: variance of a block's mean in one pair over that of one token,
/// (1/B^2) sum over t, t' of C(t - t') cos(w (t - t')).
double block_spread(const TextKeys& keys, double frequency, std::int64_t block_size) {
    double sum = static_cast<double>(block_size) * keys.autocorrelation(0);
    for (std::int64_t lag = 1; lag < block_size; ++lag) {
        sum += 2.0 * static_cast<double>(block_size - lag) * keys.autocorrelation(lag) *
               std::cos(frequency * static_cast<double>(lag));
    }
    return sum / static_cast<double>(block_size) / static_cast<double>(block_size);
}

/// P(fewer than `slots` of the rivals score above s).
double hit_at(double s, const std::vector<NormalScore>& scores, std::size_t target, std::int64_t slots,
              std::vector<double>& above) {
    above.clear();
    for (std::size_t j = 0; j < scores.size(); ++j) {
        if (j == target) continue;
        above.push_back(scores[j].sd > 0.0 ? std::exp(log_normal_upper((s - scores[j].mean) / scores[j].sd))
                                           : (scores[j].mean > s ? 1.0 : 0.0));
    }
    return poisson_binomial_cdf(above, slots - 1).back();
}

}  // namespace

TextBlockScores::TextBlockScores(const TextKeys& keys, std::int64_t block_size, std::int64_t candidates)
    : keys_(keys), block_size_(block_size), candidates_(candidates) {
    const auto size = static_cast<double>(block_size);
    for (const double frequency : keys.frequencies) {
        block_turn_.push_back(std::polar(1.0, frequency * size));
        mean_turn_.push_back(geometric_sum(std::polar(1.0, frequency), block_size) / size);
        spread_.push_back(block_spread(keys, frequency, block_size));
        memories_.emplace_back();
        for (const double decay : keys.decays) {
            const double time = -1.0 / std::log(decay);
            const Complex turn = std::polar(decay, frequency);
            memories_.back().push_back({.time = time,
                                        .turn = turn,
                                        .of_block = std::polar(std::exp(-size / time), frequency * size),
                                        .sum = keys.lasting / size * geometric_sum(turn, block_size)});
        }
    }
}

void TextBlockScores::spread_memory(const Memory& memory, std::int64_t block, std::int64_t step, std::int64_t lag,
                                    std::vector<Complex>& likeness) const {
    const auto distance = static_cast<double>(lag);
    Complex power = std::polar(std::exp(-distance / memory.time), std::arg(memory.turn) * distance);
    for (double age = distance / memory.time; block >= 0 && block < candidates_ && age < forgotten;
         block += step, age += static_cast<double>(block_size_) / memory.time) {
        const Complex value = memory.sum * power;
        likeness[static_cast<std::size_t>(block)] += step > 0 ? value : std::conj(value);
        power *= memory.of_block;
    }
}

void TextBlockScores::add_own_block(std::size_t pair, std::int64_t needle, std::vector<Complex>& likeness) const {
    const std::int64_t before = needle % block_size_;
    const std::int64_t after = block_size_ - 1 - before;
    Complex sum = keys_.autocorrelation(0);
    for (const Memory& memory : memories_[pair]) {
        sum += keys_.lasting * memory.turn * geometric_sum(memory.turn, after);
        sum += keys_.lasting * std::conj(memory.turn * geometric_sum(memory.turn, before));
    }
    likeness[static_cast<std::size_t>(needle / block_size_)] = sum / static_cast<double>(block_size_);
}

void TextBlockScores::find_likeness(std::size_t pair, std::int64_t needle, std::vector<Complex>& likeness) const {
    likeness.assign(static_cast<std::size_t>(candidates_), 0.0);
    add_own_block(pair, needle, likeness);
    const std::int64_t block = needle / block_size_;
    for (const Memory& memory : memories_[pair]) {
        spread_memory(memory, block + 1, 1, block_size_ - needle % block_size_, likeness);
        spread_memory(memory, block - 1, -1, needle % block_size_ + 1, likeness);
    }
}

std::vector<NormalScore> TextBlockScores::given(const TextPlaces& places, const std::vector<Complex>& needle,
                                                const std::vector<Complex>& query) const {
    std::vector<NormalScore> scores(static_cast<std::size_t>(candidates_));
    std::vector<Complex> likeness;
    for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) {
        find_likeness(pair, places.needle, likeness);
        const double energy = keys_.variances[pair] * std::norm(query[pair]);
        Complex mean = keys_.mean_length * keys_.mean_part * mean_turn_[pair] *
                       std::polar(1.0, -keys_.frequencies[pair] * static_cast<double>(places.query));
        for (std::size_t j = 0; j < scores.size(); ++j) {
            scores[j].mean += product(query[pair], mean + needle[pair] * likeness[j]);
            scores[j].sd += energy * std::max(0.0, spread_[pair] - std::norm(likeness[j]));  // still the variance
            mean *= block_turn_[pair];
        }
    }
    for (NormalScore& score : scores) {
        score.sd = score.sd > least_variance_share / static_cast<double>(keys_.head_dim) ? std::sqrt(score.sd) : 0.0;
    }
    scores.front().mean += keys_.sink * keys_.query_sink / static_cast<double>(block_size_);
    return scores;
}

bool can_approximate_text(const RoutingPoint& point) {
    return point.head_dim <= most_drawn_head_dim && point.candidates <= most_blocks;
}

HitProbability approximate_text_hit(const RoutingPoint& point) {
    const TextBlockScores law(TextKeys(point), point.block_size, point.candidates);
    TextDraws draws(point, 4);
    std::vector<double> above;
    double hits = 0.0;
    for (std::size_t i = 0; i < sobol_points; ++i) {
        draws.next();
        const std::int64_t target = draws.below(point.candidates);
        const std::int64_t slot = draws.below(point.block_size);
        const TextPlaces places{.needle = target * point.block_size + slot,
                                .query = point.candidates * point.block_size + draws.below(point.block_size)};
        const std::vector<NormalScore> scores = law.given(places, draws.needle(), draws.query());
        const NormalScore& own = scores[static_cast<std::size_t>(target)];
        hits +=
            hit_at(own.mean + own.sd * draws.normal(), scores, static_cast<std::size_t>(target), point.routed(), above);
    }
    const double hit = std::clamp(hits / static_cast<double>(sobol_points), 0.0, 1.0);
    return {std::log(hit), std::log1p(-hit)};
}

}  // namespace mobalab::analysis
