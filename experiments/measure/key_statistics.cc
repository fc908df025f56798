#include "experiments/measure/key_statistics.h"

#include <Eigen/Core>
#include <cmath>

namespace mobalab::experiments {
namespace {

using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// NaN where no pair has two keys of a direction.
double mean_cosine(const Rows& centred, std::int64_t lag) {
    double sum = 0.0;
    double pairs = 0.0;
    for (Eigen::Index t = 0; t + lag < centred.rows(); ++t) {
        const double lengths = centred.row(t).norm() * centred.row(t + lag).norm();
        if (lengths > 0.0) {
            sum += centred.row(t).dot(centred.row(t + lag)) / lengths;
            pairs += 1.0;
        }
    }
    return sum / pairs;
}

}  // namespace

KeyStatistics key_statistics(const HeadRows& keys) {
    const std::vector<float> values = keys.to_float();
    Rows centred = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
                       values.data(), keys.rows, keys.head_dim)
                       .cast<double>();
    const Eigen::RowVectorXd mean = centred.colwise().mean();
    const auto count = static_cast<double>(keys.rows);
    KeyStatistics statistics;
    statistics.shared_mean = mean.norm() / std::sqrt(centred.squaredNorm() / count);
    centred.rowwise() -= mean;
    const Eigen::MatrixXd covariance = centred.transpose() * centred / count;
    statistics.variance = covariance.trace();
    statistics.effective_dimension = covariance.trace() * covariance.trace() / covariance.squaredNorm();
    for (std::size_t i = 0; i < key_lags.size(); ++i) {
        statistics.cosine[i] = mean_cosine(centred, key_lags[i]);
    }
    return statistics;
}

}  // namespace mobalab::experiments
