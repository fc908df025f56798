#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/key_model.h"
#include "analysis/scorer.h"

namespace mobalab::analysis {

/// A value the user gave that the model cannot have. what() names the value, the rule and the nearest valid choice.
class InputError : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

/// With several needles: which of them a trial must find to be a hit.
enum class Goal {
    each,  ///< one given needle; the hit probability is the expected share of needles found (recall)
    any,   ///< at least one
    all,   ///< every one
};

/// What the key convolution does with the weighted sum over its lags.
enum class Activation {
    silu,  ///< x / (1 + e^-x) in every coordinate: what the kernels compute
    none,  ///< nothing: a linear convolution, which acts on affinities alone
};

/// "each", "any", "all".
std::string_view to_string(Goal goal);
/// "silu", "none".
std::string_view to_string(Activation activation);

/// Inverse of to_string. Throws InputError naming the accepted names.
Goal parse_goal(std::string_view name);
Activation parse_activation(std::string_view name);

/// One question asked of the router: does a query find its signal block among `candidates` past blocks?
///
/// Three things go beyond the paper's model of independent keys and one needle:
///
/// - `needles` R: R of the candidates are signal blocks, each with its own needle and cluster; they compete for the
///   same slots, and their positions are uniform. `goal` says what a hit is.
/// - `key_correlation` rho: the random keys of a block share a component, k_t = sqrt(rho) c + sqrt(1 - rho) u_t with c
///   uniform on the sphere and u_t uniform on the sphere orthogonal to c. Keys stay uniform unit keys, two of a block
///   have E[(q.k)(q.k')] = rho / d, keys of different blocks stay independent, and the cluster's tokens keep their
///   affinities. Normal models: the block scores' variances that follow from it (analysis/hit_problem.h).
/// - `key_conv` W: before the centroids, keys become k'_t = k_t + f(tap sum over lags l < W of k_(t-l)), zero before
///   the sequence, f the activation: kernels/README.md with the same weight in every channel and lag. The convolution
///   crosses block boundaries, so here positions matter: a cluster is contiguous, needle first, at a uniform offset in
///   its block; its tokens are placed before the convolution.
///
/// Model text has keys along a text, as a trained model with RoPE makes them (analysis/text_keys.h). There
/// `key_correlation` is of the keys of the whole text: rho is the share of their variance that lasts, up to
/// `key_memory` tokens; block size and place of the query in its block (uniform) count as well.
///
/// Everything that changes the answer is here and nothing else. All affinities are dimensionless dot products of
/// unit vectors.
struct RoutingPoint {
    Model model = Model::sphere;
    std::int64_t head_dim = 64;     ///< d >= 2
    std::int64_t block_size = 64;   ///< B >= 1, keys a block
    std::int64_t candidates = 127;  ///< c >= 1, past blocks that compete, the signal block included
    std::int64_t topk = 8;          ///< k >= 1, blocks kept, the query's own block included; routed() = k - 1
    std::int64_t cluster_size = 1;  ///< m in [1, B], related tokens in the signal block, the needle included
    double mu_signal = 0.8;         ///< E[q.k*] of the needle
    double mu_noise = 0.0;          ///< E[q.k] of a noise key; other than 0 only where the model takes it
    double mu_cluster = 0.0;        ///< E[q.k] of each of the m - 1 other tokens of the cluster
    std::int64_t seq_len = 0;       ///< N the point was asked for, 0 when it was asked for by candidates
    std::int64_t needles = 1;       ///< R in [1, min(c, 512)], signal blocks
    Goal goal = Goal::each;         ///< what a hit is; one needle: the same for all
    double key_correlation = 0.0;   ///< rho in [0, 1], of the random keys of a block
    std::int64_t key_conv = 0;      ///< W in [0, min(B, 8)], width of the key convolution; 0: none
    double key_conv_tap = 1.0;      ///< its weight at every lag, in [-8, 8]
    Activation key_conv_activation = Activation::silu;
    Scorer scorer = {};  ///< how the query scores blocks; sub_blocks divides B
    // Model text alone (analysis/text_keys.h); 0: none.
    double key_mean = 0.0;        ///< g in [0, 0.9999], length of the keys' mean over their rms length, before RoPE
    double query_mean = 0.0;      ///< b in [-1, 1], cosine of the query with that mean, its needle apart
    double effective_dim = 0.0;   ///< [2, head_dim), 1 / sum of squared shares of variance; 0: all alike
    std::int64_t key_memory = 0;  ///< tokens, a power of 4 up to 65536: longest time constant of correlated keys
    double sink = 0.0;            ///< in [0, 1e6], what token 0 adds to a score q.k, in units of 1/sqrt(d)

    std::int64_t routed() const { return topk - 1; }
    std::int64_t noise_blocks() const { return candidates - needles; }
    /// delta_mu + (m - 1)(mu_cluster - mu_noise); paper section 3.
    double delta_mu_eff() const {
        return (mu_signal - mu_noise) + static_cast<double>(cluster_size - 1) * (mu_cluster - mu_noise);
    }

    friend bool operator==(const RoutingPoint&, const RoutingPoint&) = default;
};

/// Blocks of a sequence: ceil(N / B).
std::int64_t num_blocks(std::int64_t seq_len, std::int64_t block_size);

/// Candidates of the last query of a sequence of N tokens: ceil(N / B) - 1 blocks lie entirely before its own.
std::int64_t candidates_of_last_query(std::int64_t seq_len, std::int64_t block_size);

/// Throws InputError with every rule the point breaks, one a line.
///
/// Rules: d >= 2, B >= 1, 1 <= c <= 1e6, 1 <= k <= 512, 1 <= m <= B, all affinities finite and in [-1, 1] with
/// mu_signal >= 0; the ranges above of needles, key_correlation, key_conv and what model text alone has; all of these
/// other than 0 only where the model takes them; d >= 3 for correlated unit keys (u_t needs a dimension to vary in); a
/// scorer other than mean and random only where there are keys, its sub_blocks a divisor of B, and beyond it nothing
/// that is not plain (one needle, independent keys, no convolution) but keys of model text. Model text: head_dim even
/// and at least 4 (6 with a sink, which takes one rotation pair), one needle, no cluster, key_memory exactly where keys
/// are correlated.
void validate(const RoutingPoint& point);

/// The same, `model` standing for the definition of point.model.
void validate(const RoutingPoint& point, const KeyModelDefinition& model);

/// Whether the keys are in the paper's setting: one needle, independent keys, no convolution. (Whatever the scorer.)
bool is_plain(const RoutingPoint& point);

/// Canonical text of the point: sorted "key=value" pairs joined by ';', doubles in shortest round-trip form. Two points
/// are the same question if and only if their texts are equal. seq_len is not part of it: it only says how the
/// point was asked for. What a plain point does not have (needles, goal, ...) is left out.
std::string canonical_text(const RoutingPoint& point);

}  // namespace mobalab::analysis
