#include "analysis/text_draws.h"

#include <algorithm>
#include <cmath>

#include "analysis/normal_law.h"

namespace mobalab::analysis {
namespace {

/// Number `index` of a fixed sequence of random words (Steele, Lea and Flood, OOPSLA 2014).
std::uint64_t split_mix(std::uint64_t index) {
    std::uint64_t z = (index + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
}

}  // namespace

TextDraws::TextDraws(const RoutingPoint& point, std::size_t own_numbers)
    : keys_(point),
      mu_(point.mu_signal),
      query_mean_(point.query_mean),
      engine_(own_numbers + 4 * keys_.pairs()),
      values_(own_numbers + 4 * keys_.pairs()),
      needle_(keys_.pairs()),
      noise_(keys_.pairs()) {}

double TextDraws::normal() {
    return normal_upper_quantile(uniform());
}

std::int64_t TextDraws::below(std::int64_t bound) {
    return std::min(bound - 1, static_cast<std::int64_t>(uniform() * static_cast<double>(bound)));
}

void TextDraws::next() {
    for (std::size_t i = 0; i < values_.size(); ++i) {
        // Shifted: the first points of the sequence itself have the same value in every dimension.
        values_[i] = (static_cast<double>((engine_() ^ split_mix(i)) >> 11U) + 0.5) * 0x1p-53;
    }
    used_ = values_.size() - 4 * keys_.pairs();
    for (std::size_t pair = keys_.pairs(); pair-- > 0;) {  // the slowest, of most variance, has the best numbers
        const double sd = std::sqrt(keys_.variances[pair]);
        const double real = sd * normal();
        needle_[pair] = {real, sd * normal()};
        const double noise = normal();
        noise_[pair] = {noise, normal()};
    }
    query_ = text_query(keys_, needle_, noise_, mu_, query_mean_);
    used_ = 0;
}

}  // namespace mobalab::analysis
