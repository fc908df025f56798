#pragma once

#include <cstdint>
#include <string_view>

namespace mobalab::analysis {

/// Formats that centroids are kept in between pooling and scoring.
enum class CentroidFormat { bf16, fp16 };

std::string_view to_string(CentroidFormat format);  ///< "bf16", "fp16"

/// Keys are normal with spread 1 in every channel around a mean that all keys of a head share, whose channels are
/// normal with standard deviation `shared_mean`; queries are normal.
struct RoundingQuestion {
    std::int64_t head_dim = 64;    ///< d >= 1, at most most_rounded_head_dim
    std::int64_t block_size = 64;  ///< B >= 1
    std::int64_t candidates = 0;   ///< c >= 1 of the rows asked about; with seq_len > 0 not looked at
    std::int64_t seq_len = 0;      ///< N > 0: all rows of a sequence, each with the candidates that it has
    std::int64_t topk = 8;         ///< k >= 1, own block included
    double shared_mean = 0.0;      ///< M in [0, most_shared_mean], in spreads of the keys
    CentroidFormat format = CentroidFormat::bf16;
};

inline constexpr std::int64_t most_rounded_head_dim = 4096;
inline constexpr double most_shared_mean = 1000.0;

/// Expected share of rows that keep another set of blocks because centroids are rounded to the format, over queries and
/// means (512 draws of a fixed stream: relative error of some 1 %).
///
/// A centroid's channel is x ~ N(mean, 1/B), its rounding error e = round(x) - x lies on the lattice of the binade: per
/// channel
///
///   E e^2    = u^2/12 + sum_k (-1)^k u^2/(pi k)^2 cos(2 pi k m/u) exp(-2 pi^2 k^2 / (B u^2))
///   E e      =        - sum_k (-1)^(k+1) u/(pi k) sin(2 pi k m/u) exp(...)
///   Cov(x,e) =          sum_k (-1)^k 2/B cos(2 pi k m/u) exp(...)
///
/// with u the distance of neighbouring numbers (the sawtooth's Fourier series under a normal law: Widrow and Kollar,
/// Quantization Noise, 2008, chapter 4); where u is far below the spread only u^2/12 is left, averaged over the binades
/// that x reaches. Given the query, the scores before and after rounding are sums of d channels: taken as bivariate
/// normal, with the angle of top_k_change_probability() from these moments. Approximations: that normal law (few
/// channels in the top binade carry most of the error of small d), lattices that change within a centroid's spread
/// where u is not far below it, ties of equal rounded centroids. The mean is the same for all blocks and cancels in
/// exact scores: it acts through u alone.
///
/// Throws InputError for what lies outside the ranges above.
double changed_rows(const RoundingQuestion& question);

}  // namespace mobalab::analysis
