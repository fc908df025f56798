#pragma once

#include <cstdint>
#include <vector>

#include "experiments/predict/head_scores.h"

namespace mobalab::experiments {

/// One row of HeadScores: keys 0 ... position - 1.
struct RowScores {
    std::int64_t position = 0;
    std::vector<double> x;            ///< standardised within the row over tokens 1 ... position - 1
    std::vector<double> mass_before;  ///< [i]: softmax mass (keys 0 ... position are 1) of keys before i; position + 1
                                      ///< entries
    std::vector<std::int64_t> highest;  ///< [i]: the key of the largest score among keys 1 ... i - 1, the lowest of
                                        ///< equals; -1: none; position + 1 entries
    double first_token_mass() const { return mass_before[1]; }
};

/// False (and nothing else of use) where the row's scores do not differ.
bool read_row(const HeadScores& scores, std::size_t row, RowScores& out);

}  // namespace mobalab::experiments
