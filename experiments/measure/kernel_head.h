#pragma once

#include <cstdint>
#include <vector>

#include "experiments/measure/head_outcomes.h"
#include "experiments/measure/head_tensors.h"
#include "experiments/measure/unit_sums.h"
#include "kernels/kernels.h"

namespace mobalab::experiments {

/// What a scorer keeps of the keys, in fp32; a matrix [sub-blocks, head_dim] a part.
struct Summaries {
    std::vector<FloatRows> parts;
};

/// The blocks that each row keeps beside its own.
struct Selection {
    std::int64_t slots = 0;
    std::vector<std::int32_t> blocks;  ///< [rows, slots], as kernels::route() writes them
    std::vector<float> scores;         ///< the same shape
};

/// One head before the CPU kernels. All throw KernelError.
class KernelHead {
public:
    KernelHead(const HeadTensors& head, std::uint64_t seed, int threads);

    Summaries summaries(const ScoreSetting& setting) const;

    /// topk as in a problem.
    Selection route(const ScoreSetting& setting, bool keep_first, std::int64_t topk) const;

    /// Attention in fp32 with the first topk - 1 slots of the selection: [rows, value_dim].
    FloatRows attend(std::int64_t block_size, std::int64_t topk, const Selection& selection) const;

    /// The same over all keys.
    FloatRows attend_all() const;

private:
    kernels::Problem problem(std::int64_t block_size, std::int64_t topk) const;
    kernels::Problem problem(const ScoreSetting& setting, std::int64_t topk) const;
    std::vector<std::byte> centroids(const kernels::Problem& problem) const;
    FloatRows attend(const kernels::Problem& problem, const std::int32_t* selection) const;

    const HeadTensors& head_;
    std::uint64_t seed_;
    kernels::Execution execution_;
    std::vector<float> q_, k_;                ///< of attention, made when there are values
    std::vector<std::vector<float>> values_;  ///< columns of v, head_dim at a time, the last ones filled up with zeros
};

}  // namespace mobalab::experiments
