#include "analysis/text_keys.h"

#include <algorithm>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <numeric>

namespace mobalab::analysis {
namespace {

using Vector = std::vector<std::complex<double>>;

constexpr double rope_theta = 10000.0;
constexpr double steepest = 200.0;  // beyond it the second share is below the last bit of the first

std::vector<double> falling_shares(std::size_t pairs, double power) {
    std::vector<double> shares(pairs);
    for (std::size_t rank = 0; rank < pairs; ++rank) {
        shares[pairs - 1 - rank] = std::pow(static_cast<double>(rank + 1), -power);
    }
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (double& share : shares) share /= 2.0 * sum;
    return shares;
}

double effective_dim_of(const std::vector<double>& shares) {
    return 0.5 / std::inner_product(shares.begin(), shares.end(), shares.begin(), 0.0);
}

double dot(const Vector& a, const Vector& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i].real() * b[i].real() + a[i].imag() * b[i].imag();
    return sum;
}

void add(Vector& to, double share, const Vector& what) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += share * what[i];
}

/// Takes out what lies along the unit vectors, one after the other (they are orthogonal), and makes the length 1.
Vector unit_across(Vector vector, std::initializer_list<const Vector*> directions) {
    for (const Vector* direction : directions) add(vector, -dot(vector, *direction), *direction);
    const double length = std::sqrt(dot(vector, vector));
    for (std::complex<double>& pair : vector) pair /= length;
    return vector;
}

}  // namespace

std::vector<double> power_spectrum(std::size_t pairs, double effective_dim) {
    const double all = 2.0 * static_cast<double>(pairs);
    if (effective_dim == 0.0 || effective_dim >= all) return falling_shares(pairs, 0.0);
    const auto excess = [&](double power) { return effective_dim_of(falling_shares(pairs, power)) - effective_dim; };
    if (!(excess(steepest) < 0.0)) return falling_shares(pairs, steepest);
    std::uintmax_t steps = 200;
    const auto bracket =
        boost::math::tools::toms748_solve(excess, 0.0, steepest, boost::math::tools::eps_tolerance<double>(45), steps);
    return falling_shares(pairs, std::midpoint(bracket.first, bracket.second));
}

TextKeys::TextKeys(const RoutingPoint& point)
    : head_dim(point.head_dim),
      mean_length(point.key_mean / std::sqrt(1.0 - point.key_mean * point.key_mean)),
      white(1.0 - point.key_correlation),
      lasting(0.0),
      sink(point.sink),
      query_sink(point.sink > 0.0 ? 1.0 / std::sqrt(static_cast<double>(point.head_dim)) : 0.0) {
    const auto count = static_cast<std::size_t>(head_dim / 2 - (sink > 0.0 ? 1 : 0));
    for (std::size_t i = 0; i < count; ++i) {
        frequencies.push_back(std::pow(rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
    }
    variances = power_spectrum(count, point.effective_dim);
    mean_part = 1.0 / std::sqrt(static_cast<double>(count));
    for (std::int64_t memory = 1; memory <= point.key_memory; memory *= 4) {
        decays.push_back(std::exp(-1.0 / static_cast<double>(memory)));
    }
    if (!decays.empty()) lasting = point.key_correlation / static_cast<double>(decays.size());
}

double TextKeys::autocorrelation(std::int64_t lag) const {
    double sum = lag == 0 ? white : 0.0;
    for (const double decay : decays) sum += lasting * std::pow(decay, static_cast<double>(std::abs(lag)));
    return sum;
}

std::vector<std::complex<double>> text_query(const TextKeys& keys, const std::vector<std::complex<double>>& needle,
                                             const std::vector<std::complex<double>>& noise, double mu, double b) {
    const Vector u = unit_across(needle, {});
    const Vector mean = unit_across(Vector(keys.pairs(), keys.mean_part), {&u});
    const Vector v = unit_across(noise, {&u, &mean});
    Vector query(keys.pairs());
    const double rest = std::sqrt(1.0 - mu * mu);
    add(query, mu, u);
    add(query, rest * b, mean);
    add(query, rest * std::sqrt(1.0 - b * b), v);
    return query;
}

}  // namespace mobalab::analysis
