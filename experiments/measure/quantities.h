#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace mobalab::experiments {

// What a setting on a head is described by, in the order of the columns: name, long name, definition. B block size, d
// head_dim, K = topk - 1 routed blocks, candidates: the blocks before a row's own, w: the softmax over a row's keys
// (the whole is 1), M_j: mass of block j. Means are over rows with a candidate unless they say otherwise.

#define MOBALAB_MEASURED_COUNTS(X)                                                                                     \
    X(rows, "rows with a candidate block", "")                                                                         \
    X(query_blocks, "clusters of the intervals", "stretches of max(B, 128) positions that hold rows")                  \
    X(needle_rows, "rows of needle_hit", "rows that have a key among 1 ... (b - 2) B - 1, b the own block")            \
    X(distant_rows, "rows of distant_hit", "rows whose largest q.k among keys 1 ... t - 1025 is in a candidate block") \
    X(fact_pairs, "pairs of fact_hit", "pairs (query, key) of the trace's needles whose key is in a candidate block")

#define MOBALAB_WITH_INTERVAL(X, name, long_name, definition, how) \
    X(name, long_name, definition)                                 \
    X(name##_low, "lower end of the interval of " long_name, how)  \
    X(name##_high, "upper end of the interval of " long_name, how)

#define MOBALAB_MEAN_INTERVAL "beta interval on the effective sample size of query blocks (analysis/cluster_interval.h)"
#define MOBALAB_SHARE_INTERVAL "Korn-Graubard, clustered by query blocks (analysis/cluster_interval.h)"
#define MOBALAB_RATIO_INTERVAL \
    "t interval of the squared error, clustered by query blocks (analysis/cluster_interval.h)"
#define MOBALAB_CHANCE "; scorer random: the expectation"

#define MOBALAB_MEASURED_QUANTITIES(X)                                                                                 \
    MOBALAB_WITH_INTERVAL(X, mass_recall, "share of the candidates' softmax mass that is routed",                      \
                          "mean over rows of sum of M_j over routed blocks / over candidates" MOBALAB_CHANCE,          \
                          MOBALAB_MEAN_INTERVAL)                                                                       \
    MOBALAB_WITH_INTERVAL(X, mass_recall_no0, "share of the candidates' softmax mass that is routed, without token 0", \
                          "mass_recall with token 0 left out of both sums; routing is the same" MOBALAB_CHANCE,        \
                          MOBALAB_MEAN_INTERVAL)                                                                       \
    MOBALAB_WITH_INTERVAL(X, lost_mass, "softmax mass that is not attended to",                                        \
                          "mean over rows of the candidates' mass that is not routed: the total variation distance "   \
                          "between attention and dense attention" MOBALAB_CHANCE,                                      \
                          MOBALAB_MEAN_INTERVAL)                                                                       \
    MOBALAB_WITH_INTERVAL(X, needle_hit, "share of rows whose needle is routed",                                       \
                          "needle: the key of the largest q.k among keys 1 ... (b - 2) B - 1" MOBALAB_CHANCE,          \
                          MOBALAB_SHARE_INTERVAL)                                                                      \
    MOBALAB_WITH_INTERVAL(X, distant_hit, "share of rows whose distant needle is routed",                              \
                          "needle: the key of the largest q.k among keys 1 ... t - 1025" MOBALAB_CHANCE,               \
                          MOBALAB_SHARE_INTERVAL)                                                                      \
    MOBALAB_WITH_INTERVAL(X, fact_hit, "share of planted pairs whose key is routed",                                   \
                          "over the (query, key) pairs of the trace's needles" MOBALAB_CHANCE, MOBALAB_SHARE_INTERVAL) \
    MOBALAB_WITH_INTERVAL(X, output_error, "relative error of the output against dense attention",                     \
                          "sqrt(sum over rows |out - dense|^2 / sum |dense|^2), both by the kernel",                   \
                          MOBALAB_RATIO_INTERVAL)                                                                      \
    MOBALAB_WITH_INTERVAL(X, rounding_changed, "share of rows routed otherwise without rounding",                      \
                          "rows whose routed set differs from that with the scorer's summaries in fp32",               \
                          MOBALAB_SHARE_INTERVAL)                                                                      \
    X(margin, "margin at the cut",                                                                                     \
      "mean over rows of (score of the last routed block - score of the best block left out) / standard deviation "    \
      "of the scores of the row's candidates")                                                                         \
    X(own_share, "own block's share of the mass attended to",                                                          \
      "mean over rows of own mass / (own + routed mass), those that attend to less than 1e-3 of all mass left out")    \
    X(window_share, "share of routed blocks that are among the latest K",                                              \
      "mean over rows; the latest K candidates are what scorer window routes")                                         \
    X(sink_share, "share of rows that route block 0", "")                                                              \
    X(distance_r2, "share of the variance of scores that block distance explains",                                     \
      "scores standardised within each row; variance of their means by own block - block, over the whole")             \
    X(needle_a, "standardised score of the needle's block",                                                            \
      "a = (E S - E X) / sd X: mean over rows of (S - mean X) / sd X, X the scores of the row's other candidates")     \
    X(needle_r, "spread of the standardised score of the needle's block",                                              \
      "r = sd S / sd X: standard deviation over rows of the same")                                                     \
    X(mass_a, "standardised score of a block drawn in proportion to its mass",                                         \
      "as needle_a, the target of each row drawn among the candidates in proportion to M_j")                           \
    X(mass_r, "spread of the standardised score of a block drawn in proportion to its mass", "as needle_r")            \
    X(noise_variance_db, "variance of a row's scores in units of independent keys",                                    \
      "mean over rows of var_j S_j / (|q|^2 mean |k - mean k|^2) d B; 1 for means of independent keys of equal "       \
      "spread in every channel")                                                                                       \
    X(shared_mean, "length of the keys' mean over their rms length", "|mean k| / sqrt(mean |k|^2), all keys")          \
    X(effective_dimension, "dimensions that the keys fill",                                                            \
      "1 / sum of squares of the eigenvalues of the covariance of the keys, scaled to sum 1")                          \
    X(key_cosine_1, "cosine of neighbouring keys", "mean cosine of centred keys t and t + 1")                          \
    X(key_cosine_4, "cosine of keys 4 apart", "mean cosine of centred keys t and t + 4")                               \
    X(key_cosine_16, "cosine of keys 16 apart", "mean cosine of centred keys t and t + 16")                            \
    X(key_cosine_64, "cosine of keys 64 apart", "mean cosine of centred keys t and t + 64")

#define MOBALAB_ENUMERATOR(name, long_name, definition) name,
enum class MeasuredCount { MOBALAB_MEASURED_COUNTS(MOBALAB_ENUMERATOR) end };
enum class Quantity { MOBALAB_MEASURED_QUANTITIES(MOBALAB_ENUMERATOR) end };
#undef MOBALAB_ENUMERATOR

inline constexpr std::size_t measured_counts = static_cast<std::size_t>(MeasuredCount::end);
inline constexpr std::size_t quantities = static_cast<std::size_t>(Quantity::end);

struct QuantityText {
    std::string_view name;
    std::string_view long_name;
    std::string_view definition;
};

#define MOBALAB_TEXT(name, long_name, definition) QuantityText{#name, long_name, definition},
inline constexpr std::array<QuantityText, measured_counts> count_texts = {MOBALAB_MEASURED_COUNTS(MOBALAB_TEXT)};
inline constexpr std::array<QuantityText, quantities> quantity_texts = {MOBALAB_MEASURED_QUANTITIES(MOBALAB_TEXT)};
#undef MOBALAB_TEXT

}  // namespace mobalab::experiments
