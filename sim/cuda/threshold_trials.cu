#include "sim/cuda/launches.h"
#include "sim/cuda/philox.cuh"
#include "sim/streams/threshold_stream.h"
#include "sim/tables/octave_table.h"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::uint32_t kDrawTile = 256;
constexpr std::uint32_t kMaxBins = 512;

/// What all trials with the same high half of their number share at a draw, after two rounds.
struct DrawOperands {
    std::uint32_t x0, x1, x2, unused;
};

struct TrialOperands {
    std::uint32_t x0, x2, x3;
};

__device__ DrawOperands draw_operands(std::uint32_t draw, std::uint32_t trial_high, PhiloxKey key) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(draw) * kPhiloxM0;
    const std::uint32_t x2 = static_cast<std::uint32_t>(product0 >> 32U) ^ trial_high ^ key.hi;
    const std::uint64_t product1 = static_cast<std::uint64_t>(x2) * kPhiloxM1;
    return {static_cast<std::uint32_t>(product1 >> 32U), static_cast<std::uint32_t>(product1),
            static_cast<std::uint32_t>(product0), 0};
}

__device__ __forceinline__ TrialOperands trial_operands(std::uint32_t trial_low, PhiloxKey key) {
    const std::uint64_t product1 = static_cast<std::uint64_t>(trial_low) * kPhiloxM1;
    const std::uint32_t x0 = static_cast<std::uint32_t>(product1 >> 32U) ^ key.lo;
    const std::uint64_t product0 = static_cast<std::uint64_t>(x0) * kPhiloxM0;
    return {static_cast<std::uint32_t>(product1) ^ (key.lo + kPhiloxW0),
            static_cast<std::uint32_t>(product0 >> 32U) ^ (key.hi + kPhiloxW1), static_cast<std::uint32_t>(product0)};
}

/// The eight digits of one draw against the threshold's, which stands in both halves of `both` and alone in the upper
/// half of `upper`.
struct DigitCount {
    std::uint32_t below = 0;
    std::uint32_t least_difference = 0xffffffffU;  ///< halfwise minimum of digit xor threshold: 0 is a tie

    __device__ __forceinline__ void add(std::uint32_t word, std::uint32_t both, std::uint32_t upper) {
        below += word < upper ? 1U : 0U;  // the high halves decide: the low half of `upper` is 0
        below += (word << 16U) < upper ? 1U : 0U;
        least_difference = __vminu2(least_difference, word ^ both);
    }
    __device__ __forceinline__ bool tie() const {
        return (least_difference & 0xffffU) == 0 || (least_difference >> 16U) == 0;
    }
};

/// Noise blocks of one trial whose first digit ties and whose further digits are below the threshold's; by one warp.
__device__ std::uint32_t ties_above(PhiloxKey key, std::uint64_t trial, std::uint64_t threshold,
                                    std::uint32_t noise_blocks) {
    const auto digit = static_cast<std::uint32_t>(threshold >> 48U);
    const std::uint64_t rest_of_threshold = threshold & 0xffffffffffffU;
    const std::uint32_t draws = (noise_blocks + 7) / 8;
    std::uint32_t above = 0;
    for (std::uint32_t d = threadIdx.x % 32; d < draws; d += 32) {
        const Words w = device_philox(key, trial, 1 + d);
        for (std::uint32_t h = 0; h < 8; ++h) {
            const std::uint32_t block = 8 * d + h;
            const std::uint32_t word = h < 2 ? w.x[0] : h < 4 ? w.x[1] : h < 6 ? w.x[2] : w.x[3];
            if (((word >> (16U * (h % 2U))) & 0xffffU) == digit && block < noise_blocks) {
                const Words more = device_philox(key, trial, kRefineDraw + block);
                const std::uint64_t rest = (static_cast<std::uint64_t>(more.x[0]) << 16U) | (more.x[1] >> 16U);
                above += rest < rest_of_threshold ? 1U : 0U;
            }
        }
    }
    return __reduce_add_sync(0xffffffffU, above);
}

struct TiedTrial {
    std::uint64_t threshold;
    std::uint32_t trial;  ///< within the segment
    std::uint32_t below;
};

struct Shared {
    DrawOperands draws[kDrawTile];
    std::uint32_t histogram[kMaxBins];
    TiedTrial tied[kThreads];
    std::uint32_t tied_count;
};

__device__ void count_rank(Shared& shared, std::uint32_t rank, std::uint32_t bins) {
    atomicAdd(&shared.histogram[min(rank, bins - 1)], 1U);
}

/// Draws [1 + first, 1 + first + count) of this thread's trial; the last draw of the trial is cut at noise_blocks.
__device__ void add_draws(DigitCount& count, const Shared& shared, const TrialOperands& trial, PhiloxKey key,
                          std::uint64_t threshold, std::uint32_t first, std::uint32_t draws,
                          std::uint32_t noise_blocks) {
    const auto upper = static_cast<std::uint32_t>(threshold >> 32U) & 0xffff0000U;
    const std::uint32_t both = upper | (upper >> 16U);
    const auto words_of = [&](std::uint32_t d) {
        const DrawOperands draw = shared.draws[d];
        Words w = {{trial.x0 ^ draw.x0, draw.x1, trial.x2 ^ draw.x2, trial.x3}};
        philox_rounds<2>(w, key);
        return w;
    };
    const std::uint32_t whole = min(draws, noise_blocks / 8 - first);
#pragma unroll 2
    for (std::uint32_t d = 0; d < whole; ++d) {
        const Words w = words_of(d);
        for (int i = 0; i < 4; ++i) {
            count.add(w.x[i], both, upper);
        }
    }
    if (whole < draws) {
        const Words w = words_of(whole);
        for (std::uint32_t h = 0; h < noise_blocks % 8; ++h) {
            const std::uint32_t word = h < 2 ? w.x[0] : h < 4 ? w.x[1] : h < 6 ? w.x[2] : w.x[3];
            const std::uint32_t digit = (word >> (16U * (h % 2U))) << 16U;  // in the upper half
            count.below += digit < upper ? 1U : 0U;
            count.least_difference = __vminu2(count.least_difference, (digit ^ upper) | 0xffffU);
        }
    }
}

/// One trial a thread, kThreads at a time.
__global__ void __launch_bounds__(kThreads) threshold_kernel(ThresholdTrials trials, SegmentList list) {
    __shared__ Shared shared;
    const Segment segment = list.segments[blockIdx.x];
    for (std::uint32_t bin = threadIdx.x; bin < list.bins; bin += kThreads) {
        shared.histogram[bin] = 0;
    }
    const std::uint32_t all_draws = (trials.noise_blocks + 7) / 8;
    for (std::uint32_t begin = 0; begin < segment.trials; begin += kThreads) {
        const std::uint32_t mine = begin + threadIdx.x;
        const bool active = mine < segment.trials;
        const std::uint64_t trial = segment.first_trial + mine;
        const Words signal = device_philox(trials.key, trial, 0);
        const std::uint64_t threshold =
            octave_threshold(trials.coefficients, (static_cast<std::uint64_t>(signal.x[1]) << 32U) | signal.x[0]);
        const TrialOperands operands = trial_operands(static_cast<std::uint32_t>(trial), trials.key);
        DigitCount count;
        for (std::uint32_t first = 0; first < all_draws; first += kDrawTile) {
            const std::uint32_t draws = min(kDrawTile, all_draws - first);
            __syncthreads();
            for (std::uint32_t d = threadIdx.x; d < draws; d += kThreads) {
                shared.draws[d] =
                    draw_operands(1 + first + d, static_cast<std::uint32_t>(segment.first_trial >> 32U), trials.key);
            }
            __syncthreads();
            add_draws(count, shared, operands, trials.key, threshold, first, draws, trials.noise_blocks);
        }
        if (threadIdx.x == 0) {
            shared.tied_count = 0;
        }
        __syncthreads();
        if (active) {
            if (count.tie()) {
                shared.tied[atomicAdd(&shared.tied_count, 1U)] = {threshold, mine, count.below};
            } else {
                count_rank(shared, count.below, list.bins);
            }
        }
        __syncthreads();
        for (std::uint32_t i = threadIdx.x / 32; i < shared.tied_count; i += kThreads / 32) {
            const TiedTrial tied = shared.tied[i];
            const std::uint32_t more =
                ties_above(trials.key, segment.first_trial + tied.trial, tied.threshold, trials.noise_blocks);
            if (threadIdx.x % 32 == 0) {
                count_rank(shared, tied.below + more, list.bins);
            }
        }
    }
    __syncthreads();
    for (std::uint32_t bin = threadIdx.x; bin < list.bins; bin += kThreads) {
        if (shared.histogram[bin] != 0) {
            atomicAdd(&list.histograms[static_cast<std::size_t>(segment.histogram) * list.bins + bin],
                      shared.histogram[bin]);
        }
    }
}

}  // namespace

cudaError_t launch_threshold_trials(const ThresholdTrials& trials, const SegmentList& list, cudaStream_t stream) {
    threshold_kernel<<<list.count, kThreads, 0, stream>>>(trials, list);
    return cudaGetLastError();
}

}  // namespace mobalab::sim::cuda
