#pragma once

#include <complex>
#include <cstdint>
#include <vector>

#include "analysis/hit_probability.h"
#include "analysis/normal_score.h"
#include "analysis/routing_point.h"
#include "analysis/text_keys.h"

namespace mobalab::analysis {

/// Where a query of model text and its needle stand: tokens from the beginning of the text.
struct TextPlaces {
    std::int64_t needle = 0;  ///< t*, in [0, c B)
    std::int64_t query = 0;   ///< p, in [c B, (c + 1) B)
};

/// Scores of scorer mean, q . (mean of a block's keys), given the query and the needle's key. Each is exactly normal;
/// README.md has the derivation.
class TextBlockScores {
public:
    /// Of blocks of `block_size` tokens, `candidates` of them.
    TextBlockScores(const TextKeys& keys, std::int64_t block_size, std::int64_t candidates);

    /// Of every candidate, block 0 first. `needle` is R_(t*-p) x_(t*), `query` q before RoPE, both [pairs].
    std::vector<NormalScore> given(const TextPlaces& places, const std::vector<std::complex<double>>& needle,
                                   const std::vector<std::complex<double>>& query) const;

private:
    using Complex = std::complex<double>;

    /// What an AR(1) process does in one pair: with z = decay e^(i w).
    struct Memory {
        double time;       ///< 4^j tokens
        Complex turn;      ///< z
        Complex of_block;  ///< z^B
        Complex sum;       ///< lasting (1 + z + ... + z^(B-1)) / B
    };

    /// Into `likeness` [candidates]: G of every block, of the definition in README.md.
    void find_likeness(std::size_t pair, std::int64_t needle, std::vector<Complex>& likeness) const;
    /// Adds to every (step)-th block from `block` on, whose nearest token is `lag` tokens from the needle.
    void spread_memory(const Memory& memory, std::int64_t block, std::int64_t step, std::int64_t lag,
                       std::vector<Complex>& likeness) const;
    void add_own_block(std::size_t pair, std::int64_t needle, std::vector<Complex>& likeness) const;

    TextKeys keys_;
    std::int64_t block_size_;
    std::int64_t candidates_;
    std::vector<std::vector<Memory>> memories_;  ///< [pair]
    std::vector<Complex> block_turn_;            ///< [pair]: e^(i w B)
    std::vector<Complex> mean_turn_;             ///< [pair]: mean of e^(i w r) over r < B
    std::vector<double> spread_;                 ///< [pair]: F of the definition in README.md
};

/// Whether approximate_text_hit() takes a valid point of model text.
bool can_approximate_text(const RoutingPoint& point);

/// P(the needle's block is routed) where, given the query and the needle's key, the scores of all blocks are taken for
/// independent; each alone has its exact normal law. Averaged over places, needles, queries and the score of the
/// needle's block by a Sobol sequence of 4096 points (error about 0.005): an approximation, whose measured error
/// against simulation README.md has. Needs can_approximate_text().
HitProbability approximate_text_hit(const RoutingPoint& point);

}  // namespace mobalab::analysis
