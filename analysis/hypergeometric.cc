#include "analysis/hypergeometric.h"

#include <algorithm>
#include <boost/math/quadrature/gauss_kronrod.hpp>
#include <boost/math/special_functions/beta.hpp>
#include <cmath>

namespace mobalab::analysis {
namespace {

/// Hits of the first side given all hits: weight C(n1, x) C(n2, m - x) / C(n1 + n2, m).
class Hypergeometric {
public:
    Hypergeometric(double n1, double n2, double m) : n1_(n1), n2_(n2), m_(m), p_(m / (n1 + n2)) {}

    /// Also between the whole numbers. As a ratio of binomial probabilities, which Boost gives with full precision at
    /// any size, unlike differences of log-gammas. Source: Loader 2000, "Fast and accurate computation of binomial
    /// probabilities".
    double pmf(double x) const { return binomial(x, n1_) * binomial(m_ - x, n2_) / binomial(m_, n1_ + n2_); }

    double mean() const { return n1_ * p_; }
    double sd() const {
        const double n = n1_ + n2_;
        return n > 1.0 ? std::sqrt(n1_ * p_ * (1.0 - p_) * (n2_ / (n - 1.0))) : 0.0;
    }
    double largest() const { return std::min(n1_, m_); }

    /// P(X >= x) for x at or above the mean.
    double upper_tail(double x) const {
        constexpr double wide = 1000.0;
        return sd() < wide ? summed_tail(x) : integrated_tail(x);
    }

private:
    double binomial(double x, double n) const {
        return boost::math::ibeta_derivative(x + 1.0, n - x + 1.0, p_) / (n + 1.0);
    }

    double summed_tail(double x) const {
        constexpr double negligible = 1e-17;
        double term = 1.0;
        double sum = 1.0;
        for (double i = x; i < largest() && term > negligible * sum; i += 1.0) {
            term *= (m_ - i) * (n1_ - i) / ((i + 1.0) * (n2_ - m_ + i + 1.0));
            sum += term;
        }
        return pmf(x) * sum;
    }

    /// Euler-Maclaurin: integral from x, plus f(x)/2, minus f'(x)/12; what follows is of order (f'/f)^4 / 720.
    double integrated_tail(double x) const {
        const double here = pmf(x);
        if (!(here > 0.0)) return 0.0;
        constexpr double depth = 60.0;
        const double z = (x - mean()) / sd();
        const double reach = sd() * (std::sqrt(z * z + 2.0 * depth) - z);
        const double end = std::min(largest(), x + reach);
        constexpr unsigned max_depth = 12;
        constexpr double tolerance = 1e-11;
        const double area = boost::math::quadrature::gauss_kronrod<double, 31>::integrate(
            [&](double y) { return pmf(y); }, x, end, max_depth, tolerance);
        const double slope = pmf(x + 0.5) - pmf(x - 0.5);
        return area + 0.5 * here - slope / 12.0;
    }

    double n1_;
    double n2_;
    double m_;
    double p_;
};

}  // namespace

double fisher_two_sided_p(double first_hits, double first_size, double second_hits, double second_size) {
    const double hits = first_hits + second_hits;
    if (first_size == 0.0 || second_size == 0.0 || hits == 0.0 || hits == first_size + second_size) return 1.0;
    const Hypergeometric first(first_size, second_size, hits);
    const Hypergeometric second(second_size, first_size, hits);
    const bool first_above = first_hits >= first.mean();
    const Hypergeometric& above = first_above ? first : second;
    const double count = first_above ? first_hits : second_hits;
    const double tail = above.upper_tail(count);
    const double other_tail = 1.0 - tail + above.pmf(count);
    return std::min(1.0, 2.0 * std::min(tail, other_tail));
}

}  // namespace mobalab::analysis
