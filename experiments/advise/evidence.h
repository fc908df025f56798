#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace mobalab::experiments {

/// One way to keep blocks.
struct Setting {
    std::string scorer;  ///< as `measure --scorer` takes it: "mean", "submean-4", "window"
    std::int64_t block_size = 0;
    std::int64_t topk = 0;  ///< blocks a query attends to, its own included
    std::int64_t sub_blocks = 1;
    bool keep_first = false;  ///< block 0 is always kept and is one of the topk

    std::int64_t keys() const { return block_size * topk; }  ///< that a query attends to at most
    friend auto operator<=>(const Setting&, const Setting&) = default;
};

/// "mean with block 0 kept, B 32, k 32".
std::string to_string(const Setting& setting);

/// Whether the kernels route by this scorer and it looks at the keys: what can be advised. The others (window, oracle,
/// cum2, random) are there to be compared with.
bool can_be_advised(const std::string& scorer);

/// Whether a router has something to choose in so many tokens: it keeps a block beside the own one, and leaves one out.
bool leaves_a_choice(const Setting& setting, std::int64_t seq_len);

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// An estimate with its interval; NaN: not known.
struct Estimate {
    double value = unknown;
    double low = unknown;
    double high = unknown;
};

struct HeadName {
    std::int64_t layer = 0;
    std::int64_t head = 0;
    friend auto operator<=>(const HeadName&, const HeadName&) = default;
};

/// What one setting does to one head; of several traces the mean of each number.
struct HeadLoss {
    Estimate recall;
    Estimate lost_mass;
    double needle_hit = unknown;
    double distance_r2 = unknown;  ///< share of the variance of scores that block distance explains
};

/// One setting and what is known of it.
struct Candidate {
    Setting setting;
    std::string source;                ///< where its numbers come from: "measured", "exact", "normal approximation"
    std::vector<HeadLoss> heads = {};  ///< in the order of Evidence::heads; empty: no trace
    Estimate recall = {};              ///< mean over the heads (mean_estimate())
    double worst_head = unknown;       ///< smallest recall of a head
    double needle_hit = unknown;       ///< mean over the heads that have needles; without a trace the theory's
    double milliseconds = unknown;

    /// What settings are ranked by: the recall where there is a trace, else needle_hit.
    Estimate answer() const;
};

/// What an advice rests on.
struct Evidence {
    std::int64_t seq_len = 0;  ///< that the numbers are of
    std::int64_t head_dim = 0;
    bool measured = false;
    std::string origin;                      ///< "trace a.safetensors", "theory: model sphere, ..."
    std::vector<HeadName> heads = {};        ///< empty: no trace
    std::vector<Candidate> candidates = {};  ///< each setting once, sorted
    std::vector<std::string> notes = {};     ///< what a reader must know of it
};

/// Mean of the estimates, of their low ends and of their high ends. Heads share the rows they were measured on, so
/// their errors may all point the same way: the mean of the half widths is what the mean's half width is at most,
/// however they depend on each other (the standard deviation of a mean is at most the mean of the standard deviations).
/// It says nothing of heads, layers or texts that were not measured. NaN where there is none.
Estimate mean_estimate(const std::vector<Estimate>& estimates);

}  // namespace mobalab::experiments
