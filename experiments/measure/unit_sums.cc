#include "experiments/measure/unit_sums.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mobalab::experiments {
namespace {

using Index = Eigen::Index;
using Tile = Eigen::MatrixXd;  // [rows, keys]

constexpr Index keys_a_tile = 256;
constexpr double hidden = -1e30;  // z of a key that the row must not see: finite, so that no NaN arises
constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

/// The keys of one unit: its softmax relative to its own largest score.
class UnitPass {
public:
    UnitPass(Index rows, double scale) : scale_(scale), top_(rows), exponentials_(rows) {}

    void run(const Tile& z, Index first_column, Index first_key, Index count, Index unit, UnitSums& sums,
             Eigen::ArrayXXd& tops) {
        auto highest = sums.highest.col(unit);
        auto highest_key = sums.highest_key.col(unit);
        auto sum = sums.sum.col(unit);
        auto squares = sums.sum_squares.col(unit);
        top_.setConstant(minus_infinity);
        for (Index c = 0; c < count; ++c) {
            const auto column = z.col(first_column + c).array();
            top_ = top_.max(column);
            if (first_key + c > 0) {
                const auto key = static_cast<std::int32_t>(first_key + c);
                highest_key = (column > highest).select(key, highest_key);
                highest = highest.max(column);
            }
            sum += column;
            squares += column.square();
        }
        exponentials_.setZero();
        for (Index c = first_key == 0 ? 1 : 0; c < count; ++c) {
            exponentials_ += ((z.col(first_column + c).array() - top_) * scale_).cast<float>().exp();
        }
        tops.col(unit) = top_;
        sums.mass.col(unit) = exponentials_.cast<double>();  // relative to exp(scale top) until all units are known
    }

private:
    double scale_;
    Eigen::ArrayXd top_;
    Eigen::ArrayXf exponentials_;
};

void hide_later_keys(Tile& z, Index keys, Index first_key, Index first_position) {
    for (Index c = 0; c < keys; ++c) {
        const Index before = std::clamp<Index>(first_key + c - first_position, 0, z.rows());
        z.col(c).head(before).setConstant(hidden);
    }
}

}  // namespace

std::int64_t unit_of(std::int64_t block_size) {
    constexpr std::int64_t most = 16;
    return std::gcd(block_size, most);
}

UnitSums sum_units(const RowWindow& window, std::int64_t unit_size) {
    const Index rows = window.q.rows();
    const Index keys = window.first_position + rows;
    const Index units = (keys + unit_size - 1) / unit_size;
    UnitSums sums;
    sums.size = unit_size;
    sums.mass = Eigen::ArrayXXd::Zero(rows, units);
    sums.sum = Eigen::ArrayXXd::Zero(rows, units);
    sums.sum_squares = Eigen::ArrayXXd::Zero(rows, units);
    sums.highest = Eigen::ArrayXXd::Constant(rows, units, minus_infinity);
    sums.highest_key = Eigen::ArrayXXi::Constant(rows, units, -1);

    const Tile q = window.q.cast<double>();
    Eigen::ArrayXXd tops(rows, units);
    Eigen::ArrayXd first_score(rows);
    UnitPass pass(rows, window.scale);
    const Index units_a_tile = std::max<Index>(1, keys_a_tile / unit_size);
    Tile z;
    for (Index first = 0; first < units; first += units_a_tile) {
        const Index first_key = first * unit_size;
        const Index count = std::min(units_a_tile * unit_size, keys - first_key);
        z.noalias() = q * window.k.middleRows(first_key, count).cast<double>().transpose();
        hide_later_keys(z, count, first_key, window.first_position);
        if (first == 0) {
            first_score = z.col(0).array();
        }
        for (Index offset = 0; offset < count; offset += unit_size) {
            pass.run(z, offset, first_key + offset, std::min(unit_size, count - offset),
                     (first_key + offset) / unit_size, sums, tops);
        }
    }

    const Eigen::ArrayXd top = tops.rowwise().maxCoeff();
    for (Index unit = 0; unit < units; ++unit) {
        sums.mass.col(unit) *= ((tops.col(unit) - top) * window.scale).exp();
    }
    sums.first_token = ((first_score - top) * window.scale).exp();
    const Eigen::ArrayXd total = sums.mass.rowwise().sum() + sums.first_token;
    sums.mass.colwise() /= total;
    sums.first_token /= total;
    return sums;
}

std::vector<std::int32_t> highest_keys(const RowWindow& window, const UnitSums& units, std::int64_t distance) {
    std::vector<std::int32_t> keys(static_cast<std::size_t>(window.q.rows()), -1);
    for (Index r = 0; r < window.q.rows(); ++r) {
        const Index end = std::max<Index>(0, window.first_position + r - distance + 1);  // behind the last key
        double highest = minus_infinity;
        std::int32_t& key = keys[static_cast<std::size_t>(r)];
        for (Index unit = 0; unit < end / units.size; ++unit) {
            if (units.highest(r, unit) > highest) {
                highest = units.highest(r, unit);
                key = units.highest_key(r, unit);
            }
        }
        for (Index j = std::max<Index>(1, end / units.size * units.size); j < end; ++j) {
            const double z = window.q.row(r).cast<double>().dot(window.k.row(j).cast<double>());
            if (z > highest) {
                highest = z;
                key = static_cast<std::int32_t>(j);
            }
        }
    }
    return keys;
}

}  // namespace mobalab::experiments
