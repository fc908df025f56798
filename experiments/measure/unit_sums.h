#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

namespace mobalab::experiments {

/// Rows of q or k in fp32.
using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A stretch of rows of one head and the keys up to its last row.
struct RowWindow {
    Eigen::Ref<const FloatRows> q;  ///< [rows, head_dim]
    Eigen::Ref<const FloatRows> k;  ///< [at least first_position + rows, head_dim]
    std::int64_t first_position = 0;
    double scale = 0.0;
};

/// What one pass over q . k of a window keeps: sums over units of keys, of which blocks are made. Unit u is keys
/// [u size, (u + 1) size); all arrays are [rows, units]. Where a unit is not wholly before its row only `mass` means
/// something.
struct UnitSums {
    std::int64_t size = 0;
    Eigen::ArrayXXd mass;         ///< of the softmax over keys 0 ... t, token 0 left out; the whole with it is 1
    Eigen::ArrayXXd sum;          ///< of z = q . k
    Eigen::ArrayXXd sum_squares;  ///< of z^2
    Eigen::ArrayXXd highest;      ///< z, token 0 left out; -inf where nothing is left
    Eigen::ArrayXXi highest_key;  ///< the lowest key that has it
    Eigen::ArrayXd first_token;   ///< [rows]: mass of token 0
};

/// The unit that blocks of this size are made of: a function of the size alone, so that a row of a table does not
/// depend on what else was asked for.
std::int64_t unit_of(std::int64_t block_size);

/// unit_size >= 1.
UnitSums sum_units(const RowWindow& window, std::int64_t unit_size);

/// For each row the key of the largest q . k among keys 1 ... first_position + row - distance, the lowest of equals; -1
/// where there is none. distance >= 1.
std::vector<std::int32_t> highest_keys(const RowWindow& window, const UnitSums& units, std::int64_t distance);

}  // namespace mobalab::experiments
