#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/unit_sums.h"

namespace mobalab::experiments {

/// Units added up to blocks, for the candidates of each row of a window.
class BlockSums {
public:
    /// block_size is a multiple of units.size.
    BlockSums(const UnitSums& units, std::int64_t first_position, std::int64_t block_size);

    std::int64_t block_size() const { return block_size_; }
    std::int64_t rows() const { return rows_; }
    /// Candidates of the row; spans below have as many entries.
    std::int64_t candidates(std::int64_t row) const { return (first_position_ + row) / block_size_; }
    std::span<const double> mass(std::int64_t row) const { return of(mass_, row); }
    std::span<const double> sum(std::int64_t row) const { return of(sum_, row); }
    std::span<const double> sum_squares(std::int64_t row) const { return of(sum_squares_, row); }
    /// Mass of token 0.
    double first_token(std::int64_t row) const { return first_token_[static_cast<std::size_t>(row)]; }
    /// Of block 0 without token 0, also where it is no candidate.
    double first_no0(std::int64_t row) const { return first_no0_[static_cast<std::size_t>(row)]; }
    std::int32_t needle_key(std::int64_t row) const { return needle_key_[static_cast<std::size_t>(row)]; }

    /// Into entries [at, at + rows()) of `outcomes`.
    void store(BlockOutcomes& outcomes, std::int64_t at) const;

private:
    std::span<const double> of(const std::vector<double>& values, std::int64_t row) const {
        return std::span(values).subspan(static_cast<std::size_t>(row * blocks_),
                                         static_cast<std::size_t>(candidates(row)));
    }
    void find_needles(const UnitSums& units);

    std::int64_t block_size_, first_position_, rows_, blocks_;
    std::vector<double> mass_, sum_, sum_squares_;  // [rows, blocks]
    std::vector<double> first_token_, first_no0_;
    std::vector<std::int32_t> needle_key_;
};

}  // namespace mobalab::experiments
