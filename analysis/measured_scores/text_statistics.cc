#include "analysis/measured_scores/text_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <numeric>

#include "analysis/text_draws.h"
#include "analysis/text_keys.h"

namespace mobalab::analysis {
namespace {

using Complex = std::complex<double>;

constexpr int queries = 256;
constexpr std::int64_t most_tokens = 65536;
constexpr int windows_an_octave = 4;

/// Consecutive offsets from a token, positive towards the query.
struct OffsetBin {
    std::int64_t first = 0;
    std::int64_t last = 0;
    double size() const { return static_cast<double>(last - first + 1); }
};

/// Offsets of a profile in its order: the token, bins after it, bins before it.
std::vector<OffsetBin> profile_bins() {
    std::vector<OffsetBin> bins(static_cast<std::size_t>(profile_size));
    for (std::size_t i = 1; i <= offset_bins; ++i) {
        const std::int64_t first = std::int64_t{1} << (i - 1);
        bins[i] = {first, 2 * first - 1};
        bins[offset_bins + i] = {1 - 2 * first, -first};
    }
    return bins;
}

/// Sums of values by their number from 0 on.
class PrefixSums {
public:
    void add(double value) { sums_.push_back(sums_.back() + value); }
    /// Mean of numbers first ... last, of which at least one is there.
    double mean(std::int64_t first, std::int64_t last) const {
        const auto count = std::ssize(sums_) - 1;
        const std::int64_t low = std::clamp<std::int64_t>(first, 0, count - 1);
        const std::int64_t high = std::clamp<std::int64_t>(last, low, count - 1);
        return (sums_[static_cast<std::size_t>(high + 1)] - sums_[static_cast<std::size_t>(low)]) /
               static_cast<double>(high - low + 1);
    }

private:
    std::vector<double> sums_ = {0.0};
};

/// What one query sees, in units of the spread of its scores: x(t) of analysis/measured_scores/token_statistics.h.
struct Seen {
    PrefixSums trend;            ///< [l - 1]: mean of x at distance l
    PrefixSums after;            ///< [o]: what the needle's likeness adds to x at offset o towards the query
    PrefixSums before;           ///< [o]: the same away from it
    std::vector<double> energy;  ///< [pair]: variance of x that the pair has
    double sink = 0.0;           ///< what token 0 adds
};

/// Mean and covariance of vectors that come one by one.
class Covariance {
public:
    explicit Covariance(std::size_t size) : sum_(size, 0.0), products_(size * size, 0.0) {}
    void add(const std::vector<double>& value) {
        ++count_;
        for (std::size_t i = 0; i < value.size(); ++i) {
            sum_[i] += value[i];
            for (std::size_t j = 0; j < value.size(); ++j) products_[i * value.size() + j] += value[i] * value[j];
        }
    }
    std::vector<double> mean() const {
        std::vector<double> result = sum_;
        for (double& value : result) value /= count_;
        return result;
    }
    double covariance(std::size_t i, std::size_t j) const {
        return products_[i * sum_.size() + j] / count_ - sum_[i] / count_ * (sum_[j] / count_);
    }

private:
    double count_ = 0.0;
    std::vector<double> sum_;
    std::vector<double> products_;
};

class Derivation {
public:
    explicit Derivation(const RoutingPoint& point)
        : point_(point), keys_(point), tokens_(point.candidates * point.block_size + point.block_size / 2) {
        TextDraws draws(point, 0);
        for (int i = 0; i < queries; ++i) {
            draws.next();
            seen_.push_back(seen_by(draws.query(), draws.needle()));
        }
        energy_.assign(keys_.pairs(), 0.0);
        for (const Seen& seen : seen_) {
            for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) energy_[pair] += seen.energy[pair] / queries;
        }
        for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) waves_.push_back(wave_of(pair));
    }

    TokenStatistics statistics() const {
        TokenStatistics result;
        result.trend = trend();
        for (std::int64_t size = 1; size <= most_block_size && size < tokens_; size *= 2) {
            result.window_variance.push_back(window_variances(size));
        }
        set_first_tokens(result);
        result.needles[point_.block_size] = needles();
        return result;
    }

private:
    Seen seen_by(const std::vector<Complex>& query, const std::vector<Complex>& needle) const {
        std::vector<double> trend(static_cast<std::size_t>(tokens_), 0.0);
        std::vector<double> likeness[2];
        likeness[0].assign(static_cast<std::size_t>(most_block_size), 0.0);
        likeness[1] = likeness[0];
        Seen seen;
        for (std::size_t pair = 0; pair < keys_.pairs(); ++pair) {
            const Complex turn = std::polar(1.0, -keys_.frequencies[pair]);
            Complex mean = keys_.mean_length * keys_.mean_part * std::conj(query[pair]);
            for (double& value : trend) value += (mean *= turn).real();
            Complex after = std::conj(query[pair]) * needle[pair];
            Complex before = after;
            for (std::size_t o = 0; o < likeness[0].size(); ++o) {
                likeness[0][o] += after.real();
                likeness[1][o] += before.real();
                after *= std::conj(turn);
                before *= turn;
            }
            seen.energy.push_back(keys_.variances[pair] * std::norm(query[pair]));
        }
        const double count = static_cast<double>(tokens_);
        const double middle = std::accumulate(trend.begin(), trend.end(), 0.0) / count;
        double variance = std::accumulate(seen.energy.begin(), seen.energy.end(), 0.0);
        for (const double value : trend) variance += (value - middle) * (value - middle) / count;
        const double sd = std::sqrt(variance);
        for (const double value : trend) seen.trend.add((value - middle) / sd);
        for (std::size_t o = 0; o < likeness[0].size(); ++o) {
            const double c = keys_.autocorrelation(static_cast<std::int64_t>(o)) / sd;
            seen.after.add(c * likeness[0][o]);
            seen.before.add(c * likeness[1][o]);
        }
        for (double& energy : seen.energy) energy /= variance;
        seen.sink = keys_.sink * keys_.query_sink / sd;
        return seen;
    }

    /// [l]: C(l) e^(i w l), l = 0 ... 2 most_block_size.
    std::vector<Complex> wave_of(std::size_t pair) const {
        std::vector<Complex> wave;
        for (std::int64_t lag = 0; lag <= 2 * most_block_size; ++lag) {
            wave.push_back(std::polar(keys_.autocorrelation(lag), keys_.frequencies[pair] * static_cast<double>(lag)));
        }
        return wave;
    }

    /// Mean over queries, by bins of distance.
    std::vector<double> trend() const {
        std::vector<double> result;
        for (int bin = 0;; ++bin) {
            const auto edge = [](int at) {
                return static_cast<std::int64_t>(std::ceil(std::exp2(static_cast<double>(at) / trend_bins_per_octave)));
            };
            if (edge(bin) >= tokens_) return result;
            double sum = 0.0;
            for (const Seen& seen : seen_) sum += seen.trend.mean(edge(bin) - 1, edge(bin + 1) - 2);
            result.push_back(sum / queries);
        }
    }

    /// Variance of the mean over `size` neighbours: of what keys differ by, and of the queries' trends.
    std::vector<double> window_variances(std::int64_t size) const {
        const double noise = mean_product({0, size - 1}, {0, size - 1});
        std::vector<double> result;
        for (std::int64_t from = 1; from < tokens_; from *= 2) {
            double variance = 0.0;
            for (int i = 0; i < windows_an_octave; ++i) {
                const auto middle =
                    from + static_cast<std::int64_t>((i + 0.5) / windows_an_octave * static_cast<double>(from));
                const std::int64_t first = std::max<std::int64_t>(0, middle - size / 2 - 1);
                Covariance windows(1);
                for (const Seen& seen : seen_) windows.add({seen.trend.mean(first, first + size - 1)});
                variance += windows.covariance(0, 0) / windows_an_octave;
            }
            result.push_back(noise + std::max(0.0, variance));
        }
        return result;
    }

    /// E over queries of the mean covariance of x at offsets of two bins, of independent texts.
    double mean_product(const OffsetBin& a, const OffsetBin& b) const {
        double sum = 0.0;
        for (std::int64_t lag = a.first - b.last; lag <= a.last - b.first; ++lag) {
            const auto pairs =
                static_cast<double>(std::min(a.last, b.last + lag) - std::max(a.first, b.first + lag) + 1);
            const auto distance = static_cast<std::size_t>(std::abs(lag));
            if (pairs <= 0.0 || distance >= waves_.front().size()) continue;
            double product = 0.0;
            for (std::size_t i = 0; i < energy_.size(); ++i) product += energy_[i] * waves_[i][distance].real();
            sum += pairs * product;
        }
        return sum / (a.size() * b.size());
    }

    /// What of that the needle's key explains.
    double explained(const OffsetBin& a, const OffsetBin& b) const {
        double sum = 0.0;
        for (std::size_t i = 0; i < energy_.size(); ++i) {
            sum += energy_[i] * (mean_wave(i, a) * std::conj(mean_wave(i, b))).real();
        }
        return sum;
    }

    Complex mean_wave(std::size_t pair, const OffsetBin& bin) const {
        Complex sum = 0.0;
        for (std::int64_t o = bin.first; o <= bin.last; ++o) {
            const Complex wave = waves_[pair][static_cast<std::size_t>(std::abs(o))];
            sum += o < 0 ? std::conj(wave) : wave;
        }
        return sum / bin.size();
    }

    /// Whether a block that holds the token can reach the bin.
    bool counts(const OffsetBin& bin) const {
        return std::min(std::abs(bin.first), std::abs(bin.last)) < point_.block_size;
    }

    void set_first_tokens(TokenStatistics& result) const {
        constexpr std::size_t size = offset_bins + 1;
        const std::vector<OffsetBin> bins = profile_bins();
        Covariance first(size);
        for (const Seen& seen : seen_) {
            std::vector<double> x;
            for (std::size_t i = 0; i < size; ++i) {
                x.push_back(seen.trend.mean(tokens_ - 1 - bins[i].last, tokens_ - 1 - bins[i].first));
            }
            x[0] += seen.sink;
            first.add(x);
        }
        result.first_mean = first.mean();
        for (std::size_t i = 0; i < size; ++i) {
            for (std::size_t j = 0; j < size; ++j) {
                const bool used = counts(bins[i]) && counts(bins[j]);
                result.first_covariance.push_back(used ? first.covariance(i, j) + mean_product(bins[i], bins[j]) : 0.0);
            }
        }
    }

    TargetPopulation needles() const {
        const std::vector<OffsetBin> bins = profile_bins();
        const std::vector<double> noise = noise_around_needle(bins);
        TargetPopulation population;
        for (int half = 0;; ++half) {
            const double low = std::exp2(0.5 * half);
            const double high = std::exp2(0.5 * (half + 1));
            if (low >= static_cast<double>((point_.candidates + 1) * point_.block_size)) return population;
            TargetGroup group;
            for (const double place : {0.125, 0.375, 0.625, 0.875})
                group.distances.push_back(low * std::exp2(0.5 * place));
            group.weight = share_between(low, high);
            if (group.weight > 0.0) {
                set_profile(bins, noise, std::llround(low * std::exp2(0.25)), group);
                population.groups.push_back(group);
            }
        }
    }

    /// Share of needles at distances [low, high): the query stands anywhere in its block, the needle in a candidate.
    double share_between(double low, double high) const {
        const auto size = static_cast<double>(point_.block_size);
        double sum = 0.0;
        for (auto l = static_cast<std::int64_t>(std::ceil(low)); static_cast<double>(l) < high; ++l) {
            const auto distance = static_cast<double>(l);
            const double farthest = static_cast<double>(point_.candidates + 1) * size - distance;
            sum += std::clamp(std::min(distance, farthest) / size, 0.0, 1.0);
        }
        return sum / (static_cast<double>(point_.candidates) * size);
    }

    std::vector<double> noise_around_needle(const std::vector<OffsetBin>& bins) const {
        std::vector<double> noise;
        for (const OffsetBin& a : bins) {
            for (const OffsetBin& b : bins) {
                noise.push_back(counts(a) && counts(b) ? mean_product(a, b) - explained(a, b) : 0.0);
            }
        }
        return noise;
    }

    void set_profile(const std::vector<OffsetBin>& bins, const std::vector<double>& noise, std::int64_t distance,
                     TargetGroup& group) const {
        Covariance around(bins.size());
        Covariance likeness(bins.size());
        for (const Seen& seen : seen_) {
            std::vector<double> x;
            std::vector<double> alike;
            for (const OffsetBin& bin : bins) {
                alike.push_back(bin.first >= 0 ? seen.after.mean(bin.first, bin.last)
                                               : seen.before.mean(-bin.last, -bin.first));
                x.push_back(alike.back() + seen.trend.mean(distance - bin.last - 1, distance - bin.first - 1));
            }
            around.add(x);
            likeness.add(alike);
        }
        group.profile = likeness.mean();  // the trend's mean is not part of it
        for (std::size_t i = 0; i < bins.size(); ++i) {
            for (std::size_t j = 0; j < bins.size(); ++j) {
                const bool used = counts(bins[i]) && counts(bins[j]);
                group.covariance.push_back(used ? around.covariance(i, j) + noise[i * bins.size() + j] : 0.0);
            }
        }
    }

    RoutingPoint point_;
    TextKeys keys_;
    std::int64_t tokens_;  ///< before a query in the middle of its block
    std::vector<Seen> seen_;
    std::vector<double> energy_;               ///< [pair]: mean of Seen::energy
    std::vector<std::vector<Complex>> waves_;  ///< [pair][lag]
};

}  // namespace

TokenStatistics text_statistics(const RoutingPoint& point) {
    validate(point);
    if (!definition_of(point.model).text_keys) {
        throw InputError(fmt::format("model = {}: its tokens have no statistics along a text; nearest valid: text",
                                     to_string(point.model)));
    }
    if (point.head_dim > most_drawn_head_dim) {
        throw InputError(
            fmt::format("head_dim = {}: statistics of a text are derived up to {}; nearest valid value is {}",
                        point.head_dim, most_drawn_head_dim, most_drawn_head_dim));
    }
    if (point.block_size < 2 || point.block_size > most_block_size) {
        throw InputError(fmt::format("block_size = {}: must be between 2 and {}; nearest valid value is {}",
                                     point.block_size, most_block_size, point.block_size < 2 ? 2 : most_block_size));
    }
    if (point.candidates > most_tokens / point.block_size - 1) {
        throw InputError(
            fmt::format("candidates = {} with block_size = {}: statistics of a text are derived up to {} "
                        "tokens; nearest valid value is {}",
                        point.candidates, point.block_size, most_tokens, most_tokens / point.block_size - 1));
    }
    return Derivation(point).statistics();
}

}  // namespace mobalab::analysis
