#include "analysis/normal_law.h"

#include <boost/math/constants/constants.hpp>
#include <boost/math/special_functions/erf.hpp>
#include <boost/math/tools/fraction.hpp>
#include <cmath>
#include <limits>
#include <utility>

namespace mobalab::analysis {
namespace {

/// Laplace's continued fraction of the Mills ratio, Q(x)/phi(x) = 1/(x + 1/(x + 2/(x + 3/(x + ...)))), DLMF 7.9.3.
/// Boost has erfc, which underflows past x = 37.5, and no scaled erfc; its Lentz evaluator sums the fraction.
class MillsFraction {
public:
    using result_type = std::pair<double, double>;
    explicit MillsFraction(double x) : x_(x) {}
    result_type operator()() { return {++index_ == 1.0 ? 1.0 : index_ - 1.0, x_}; }

private:
    double x_;
    double index_ = 0.0;
};

/// From here on the fraction needs at most 20 terms for double precision.
constexpr double fraction_from = 12.0;

}  // namespace

double log_normal_density(double x) {
    return -0.5 * x * x - 0.5 * std::log(boost::math::constants::two_pi<double>());
}

double log_normal_upper(double x) {
    constexpr double inverse_root_two = boost::math::constants::one_div_root_two<double>();
    if (x < 0.0) return std::log1p(-0.5 * std::erfc(-x * inverse_root_two));
    if (x < fraction_from) return std::log(0.5 * std::erfc(x * inverse_root_two));
    if (std::isinf(x)) return -x;
    MillsFraction fraction(x);
    return log_normal_density(x) +
           std::log(boost::math::tools::continued_fraction_a(fraction, std::numeric_limits<double>::epsilon()));
}

double normal_upper_quantile(double p) {
    if (p <= 0.0) return std::numeric_limits<double>::infinity();
    if (p >= 1.0) return -std::numeric_limits<double>::infinity();
    return boost::math::constants::root_two<double>() * boost::math::erfc_inv(2.0 * p);
}

NormalScoreLaw::NormalScoreLaw(double mean, double sd) : mean_(mean), sd_(sd), log_sd_(std::log(sd)) {}

LogLaw NormalScoreLaw::at(const Score& score) const {
    const double z = (score.value - mean_) / sd_;
    return {log_normal_upper(z), log_normal_upper(-z), log_normal_density(z) - log_sd_};
}

}  // namespace mobalab::analysis
