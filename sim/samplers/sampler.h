#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "analysis/routing_point.h"
#include "sim/samplers/method.h"
#include "sim/simd/instruction_set.h"
#include "sim/streams/philox.h"

namespace mobalab::sim {

/// One rung of the ladder of samplers: draws trials of one point and says how many noise blocks beat the signal block.
///
/// A noise block beats the signal block when its score is higher, or equal with the higher block index; the signal
/// block's index is uniform among the candidates (signal_block_index). With several needles: how many blocks, other
/// needles' included, beat the one that decides the point's goal (sim/samplers/needles.h).
class Sampler {
public:
    virtual ~Sampler() = default;

    /// Adds trials [first_trial, first_trial + trials) to the histogram of ranks; ranks beyond its end go into the last
    /// bin. What a trial gives depends on the point, the key and its number alone. Safe to call from several threads.
    virtual void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                             std::span<std::uint64_t> histogram) const = 0;

    /// Work of one trial, in units of about a nanosecond: sizes the chunks. A function of the point and method alone.
    virtual double trial_cost() const = 0;
};

/// What a sampler is made from; `point` has passed validate() and check_method().
struct SamplerInput {
    analysis::RoutingPoint point;
    PhiloxKey key;
    const HotLoops* loops;
};

/// The sampler of a counting method. Throws analysis::InputError for a point too large for the counter layout.
std::unique_ptr<Sampler> make_sampler(Method method, const SamplerInput& input);

// One constructor a file; make_sampler holds the table.
std::unique_ptr<Sampler> make_vector_sampler(const SamplerInput& input);
std::unique_ptr<Sampler> make_affinity_sampler(const SamplerInput& input);
std::unique_ptr<Sampler> make_block_sampler(const SamplerInput& input);
std::unique_ptr<Sampler> make_threshold_sampler(const SamplerInput& input);

// Beyond the paper's setting (analysis::is_plain); the makers above turn to them.
std::unique_ptr<Sampler> make_token_score_sampler(const SamplerInput& input, Method method);  ///< vector or affinity
std::unique_ptr<Sampler> make_key_tile_sampler(const SamplerInput& input);
std::unique_ptr<Sampler> make_needle_block_sampler(const SamplerInput& input);

// Other scorers than the mean of the keys; the makers above turn to them. (sim/samplers/scored_vector_sampler.h)
std::unique_ptr<Sampler> make_sub_block_sampler(const SamplerInput& input, Method method);  ///< vector or affinity
std::unique_ptr<Sampler> make_random_sampler(const SamplerInput& input);

/// Index of the signal block among `candidates` blocks in this trial. Its own draw, far from all others, so that
/// samplers ask for it only when scores tie. Noise block b = 0, 1, ... then has index b + (b >= signal index).
inline constexpr std::uint64_t kIndexDraw = std::uint64_t{1} << 48U;  ///< 2^50 as an offset of cuRAND
std::uint64_t signal_block_index(PhiloxKey key, std::uint64_t trial, std::int64_t candidates);

/// Slots of the cluster in a block with sub-blocks (sim/samplers/cluster_slots.h) have draws from here on.
inline constexpr std::uint64_t kSlotDraw = std::uint64_t{1} << 49U;

/// Common components of correlated keys, as affinities, have draws from here on.
inline constexpr std::uint64_t kCommonDraw = std::uint64_t{1} << 47U;

/// Throws analysis::InputError when a trial would need more than `room` draws.
void check_draws(const analysis::RoutingPoint& point, double draws_per_trial,
                 double room = static_cast<double>(kIndexDraw));

/// Adds one trial of this rank to a histogram.
inline void count_rank(std::span<std::uint64_t> histogram, std::uint64_t rank) {
    ++histogram[static_cast<std::size_t>(std::min<std::uint64_t>(rank, histogram.size() - 1))];
}

/// Hash that names the stream of a point under a method: of every field of the model but topk and goal, so that points
/// that differ in those (or in how they were asked for) see the same trials, and of the method where it is not the
/// point's native one. A scorer that looks at keys is left out of it too, the native method being that of the mean: the
/// scorers of a point see the same queries and keys by the same method, and their misses can be compared trial by
/// trial.
std::uint64_t stream_identity(const analysis::RoutingPoint& point, Method method);

}  // namespace mobalab::sim
