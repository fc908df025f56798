#include "experiments/measure/block_sums.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace mobalab::experiments {
namespace {

std::vector<double> added_up(const Eigen::ArrayXXd& units, std::int64_t units_a_block, std::int64_t blocks) {
    std::vector<double> sums(static_cast<std::size_t>(units.rows() * blocks));
    Eigen::Map<Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> by_row(sums.data(), units.rows(),
                                                                                             blocks);
    for (std::int64_t j = 0; j < blocks; ++j) {
        by_row.col(j) = units.middleCols(j * units_a_block, units_a_block).rowwise().sum();
    }
    return sums;
}

}  // namespace

BlockSums::BlockSums(const UnitSums& units, std::int64_t first_position, std::int64_t block_size)
    : block_size_(block_size),
      first_position_(first_position),
      rows_(units.mass.rows()),
      blocks_((first_position + rows_ - 1) / block_size),
      mass_(added_up(units.mass, block_size / units.size, blocks_)),
      sum_(added_up(units.sum, block_size / units.size, blocks_)),
      sum_squares_(added_up(units.sum_squares, block_size / units.size, blocks_)),
      first_token_(units.first_token.begin(), units.first_token.end()),
      first_no0_(static_cast<std::size_t>(rows_)) {
    for (std::int64_t r = 0; r < rows_ && blocks_ > 0; ++r) {
        double& first = mass_[static_cast<std::size_t>(r * blocks_)];
        first_no0_[static_cast<std::size_t>(r)] = first;
        first += first_token(r);
    }
    find_needles(units);
}

void BlockSums::find_needles(const UnitSums& units) {
    const std::int64_t units_a_block = block_size_ / units.size;
    needle_key_.assign(static_cast<std::size_t>(rows_), -1);
    for (std::int64_t r = 0; r < rows_; ++r) {
        double highest = -std::numeric_limits<double>::infinity();
        for (std::int64_t unit = 0; unit < (candidates(r) - 2) * units_a_block; ++unit) {
            if (units.highest(r, unit) > highest) {
                highest = units.highest(r, unit);
                needle_key_[static_cast<std::size_t>(r)] = units.highest_key(r, unit);
            }
        }
    }
}

void BlockSums::store(BlockOutcomes& outcomes, std::int64_t at) const {
    for (std::int64_t r = 0; r < rows_; ++r) {
        const auto row = static_cast<std::size_t>(at + r);
        const std::span<const double> masses = mass(r);
        if (!masses.empty()) {
            const double later = std::accumulate(masses.begin() + 1, masses.end(), 0.0);
            outcomes.past_mass[row] = static_cast<float>(masses.front() + later);
            outcomes.past_mass_no0[row] = static_cast<float>(first_no0(r) + later);
            outcomes.first_mass[row] = static_cast<float>(masses.front());
            outcomes.first_mass_no0[row] = static_cast<float>(first_no0(r));
        }
        outcomes.needle_key[row] = needle_key(r);
    }
}

}  // namespace mobalab::experiments
