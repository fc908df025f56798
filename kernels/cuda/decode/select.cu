#include "kernels/cuda/decode/select.h"

#include <algorithm>

#include "kernels/cuda/decode/cache_table.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"
#include "kernels/scorers/hash_score.h"

// A thread block a row. Keys of score and block are distinct, so there is one smallest key that is kept: a radix select
// finds it digit by digit, from the top, and stops as soon as all keys with the digits so far are kept or none is. For
// scores that differ that is after two or three digits of eight. What is kept is then put in order.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 256;
constexpr int digit_bits = 8, digits = 1 << digit_bits;
static_assert(digits == threads);  // a thread for each
constexpr int most_staged = 8192;  // scores in shared memory; rows with more read them from L2 for every digit
constexpr int most_kept = static_cast<int>(max_routed_cuda);

struct Params {
    CacheTable cache;
    DecodeRows rows;
    const float* scores = nullptr;  // [rows, blocks_max]
    std::int32_t* selection = nullptr;
    float* kept_scores = nullptr;
    BlockDivisor per_block;
    std::int32_t blocks_max = 0, slots = 0;
    std::int32_t first = 0;  // 1: slot 0 is block 0's, which is no candidate of the others
    std::uint64_t seed = 0;
};

/// Ordered bits of a score, 0 of -inf, which is no candidate.
__device__ __forceinline__ std::uint32_t bits_of(float score) {
    return score == -INFINITY ? 0u : ordered_bits(score);
}

struct Shared {
    int histogram[digits];
    int warp_sums[threads / 32];
    int digit, remaining, in_bucket;
    int count;
    Key kept[most_kept];
};

/// Scores in memory, staged where there is place.
struct Loaded {
    const float* row;
    const std::uint32_t* staged;  // null: not
    __device__ __forceinline__ Key key(int block) const {
        const std::uint32_t bits = staged != nullptr ? staged[block] : bits_of(row[block]);
        return static_cast<Key>(bits) << 32 | static_cast<std::uint32_t>(block);
    }
};
struct Hashed {
    std::uint64_t query;
    __device__ __forceinline__ Key key(int block) const { return make_key(hash_score(query, block), block); }
};

/// Counts the digits at `shift` of the keys in [first, last) whose higher digits are `prefix`; empty keys are left out.
template <typename Source>
__device__ void count_digits(Shared& shared, const Source& source, int first, int last, int shift, Key prefix) {
    const int t = static_cast<int>(threadIdx.x), lane = t % 32;
    shared.histogram[t] = 0;
    __syncthreads();
    for (int base = first; base < last; base += threads) {
        const int block = base + t;
        const Key key = block < last ? source.key(block) : empty_key;
        const bool counts = key >> 32 != 0 && (shift + digit_bits == 64 || key >> (shift + digit_bits) == prefix);
        const unsigned digit = counts ? static_cast<unsigned>(key >> shift) % digits : digits;
        // Scores share their first digits: one addition for all lanes that have the same.
        const unsigned peers = __match_any_sync(full_warp, digit);
        if (counts && lane == __ffs(static_cast<int>(peers)) - 1) atomicAdd(&shared.histogram[digit], __popc(peers));
    }
    __syncthreads();
}

/// The digit in which the `remaining`-th largest key lies, how many keys are still wanted of those that have it, and
/// how many have it. Where there are not as many keys: digit 0, and all that are left.
__device__ void find_digit(Shared& shared, int remaining) {
    const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
    const int digit = digits - 1 - t;  // the largest first
    const int mine = shared.histogram[digit];
    int sum = mine;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(full_warp, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) shared.warp_sums[warp] = sum;
    __syncthreads();
    for (int w = 0; w < warp; ++w) sum += shared.warp_sums[w];
    const int before = sum - mine;
    const bool here = before < remaining && remaining <= sum;
    const bool too_few = t == threads - 1 && sum < remaining;
    if (here || too_few) {
        shared.digit = digit;
        shared.remaining = too_few ? mine : remaining - before;
        shared.in_bucket = mine;
    }
    __syncthreads();
}

/// The smallest of the `wanted` largest keys, or one below it and above all others; 1 << 32 where all are kept.
template <typename Source>
__device__ Key smallest_kept(Shared& shared, const Source& source, int first, int last, int wanted) {
    Key prefix = 0;
    int remaining = wanted;
    for (int shift = 64 - digit_bits; shift >= 0; shift -= digit_bits) {
        count_digits(shared, source, first, last, shift, prefix);
        find_digit(shared, remaining);
        prefix = prefix << digit_bits | static_cast<Key>(shared.digit);
        remaining = shared.remaining;
        if (shared.in_bucket == remaining) return max(prefix << shift, Key{1} << 32);
    }
    return prefix;
}

template <typename Source>
__device__ void select_row(const Params& p, Shared& shared, const Source& source, int number, int candidates) {
    const int t = static_cast<int>(threadIdx.x);
    const int wanted = p.slots - p.first;
    const std::int64_t at = static_cast<std::int64_t>(number) * p.slots;
    if (t == 0) shared.count = 0;
    if (p.first > 0 && t == 0) {
        p.selection[at] = candidates > 0 ? 0 : -1;
        if (p.kept_scores != nullptr) p.kept_scores[at] = candidates > 0 ? INFINITY : -INFINITY;
    }
    __syncthreads();
    if (wanted > 0 && candidates > p.first) {
        const Key least = smallest_kept(shared, source, p.first, candidates, wanted);
        for (int block = p.first + t; block < candidates; block += threads) {
            const Key key = source.key(block);
            if (key >= least) shared.kept[atomicAdd(&shared.count, 1)] = key;
        }
        __syncthreads();
    }
    const int count = shared.count;
    for (int i = t; i < wanted; i += threads) {
        int slot = i;
        Key key = empty_key;
        if (i < count) {  // distinct keys: how many are larger is where it goes
            key = shared.kept[i];
            slot = 0;
            for (int j = 0; j < count; ++j) slot += shared.kept[j] > key ? 1 : 0;
        }
        p.selection[at + p.first + slot] = key_block(key);
        if (p.kept_scores != nullptr) p.kept_scores[at + p.first + slot] = key_score(key);
    }
}

template <bool Hashes>
__global__ void __launch_bounds__(threads) select_kernel(const Params p) {
    __shared__ Shared shared;
    extern __shared__ std::uint32_t staged[];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int number = static_cast<int>(blockIdx.x);
    const DecodeRow row = p.rows.at(number, p.cache);
    const int candidates = row.position < 0 ? 0 : p.per_block.divide(row.position);
    if constexpr (Hashes) {
        select_row(p, shared, Hashed{hash_of_query(p.seed, row.b, row.head, row.position)}, number, candidates);
    } else {
        const float* scores = p.scores + static_cast<std::int64_t>(number) * p.blocks_max;
        const bool stages = candidates <= most_staged && p.slots > p.first;
        for (int i = static_cast<int>(threadIdx.x); i < candidates && stages; i += threads) {
            staged[i] = bits_of(scores[i]);
        }
        select_row(p, shared, Loaded{scores, stages ? staged : nullptr}, number, candidates);
    }
}

}  // namespace

Status launch_decode_select(const Problem& problem, const Cache& cache, const float* scores, std::int32_t* selection,
                            float* kept_scores, cudaStream_t stream) {
    Params p;
    p.cache = make_cache_table(problem, cache);
    p.rows = make_decode_rows(problem);
    p.scores = scores;
    p.selection = selection;
    p.kept_scores = kept_scores;
    p.per_block = BlockDivisor(problem.block_size);
    p.blocks_max = static_cast<std::int32_t>(problem.longest_blocks());
    p.slots = static_cast<std::int32_t>(problem.routed());
    p.first = static_cast<std::int32_t>(problem.routed() - problem.scored());
    p.seed = problem.scorer.seed;
    const dim3 grid(static_cast<unsigned>(p.rows.count()));
    if (find_scorer(problem.scorer.kind)->parts == 0) {
        return launch_early("select_kernel", select_kernel<true>, grid, threads, 0, stream, p);
    }
    const std::size_t staged = static_cast<std::size_t>(std::min<std::int64_t>(problem.longest_blocks(), most_staged));
    return launch_early("select_kernel", select_kernel<false>, grid, threads, staged * sizeof(std::uint32_t), stream,
                        p);
}

}  // namespace mobalab::kernels::cuda
