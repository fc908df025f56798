#include "kernels/cuda/routing/select_best.h"

#include <bit>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"
#include "kernels/cuda/tile/block_sum.cuh"

// The best of a row's stored scores, one thread block a row. Radix selection from the highest digit of the keys down
// finds the smallest key that is kept; the keys from it on, which are as many as there are slots, are sorted in shared
// memory. Keys are unique, so the order in which threads come never matters.
namespace mobalab::kernels::cuda {
namespace {

constexpr int digit_bits = 8, digits = 1 << digit_bits;
constexpr int threads = digits;  // one a value of a digit
constexpr int column_bits = 16;
constexpr int key_bits = 32 + column_bits;

/// A row of an item, as RouteItem has it.
struct SelectedRow {
    int head = 0, blocks = 0, candidates = 0;  // blocks that it may select, and columns of those that are scored
    std::int64_t token = -1;                   // of the batch; -1: the sequence has no such row

    __device__ SelectedRow(const RouteParams& p, int item, int row_of_item, int item_rows) {
        const int tile = item % p.row_tiles, pair = item / p.row_tiles;
        const Sequence sequence = p.sequences.at(pair / p.heads_q);
        const int row = (p.row_tiles - 1 - tile) * item_rows + row_of_item;
        if (row >= sequence.sq) return;
        head = pair % p.heads_q;
        blocks = p.blocks.of_row(sequence, row);
        candidates = max(blocks - p.first_block, 0) << p.sub_shift;
        token = sequence.q_begin + row;
    }
};

/// The scores of a row as keys of key_bits bits in the order of make_key().
struct RowKeys {
    const float* scores;
    int count;

    /// Calls visit(key) for this thread's share of the scores that are candidates.
    template <typename Visit>
    __device__ __forceinline__ void for_each(const Visit& visit) const {
        for (int column = static_cast<int>(threadIdx.x); column < count; column += threads) {
            const float score = scores[column];
            if (score == -INFINITY) continue;
            visit(make_key(score, 0) >> (32 - column_bits) | static_cast<Key>(column));
        }
    }
};

/// Which keys are kept: those whose bits above `shift` are at least `lowest`'s.
struct Threshold {
    Key lowest = 0;
    int shift = key_bits;

    __device__ __forceinline__ bool keeps(Key key) const { return key >> shift >= lowest >> shift; }
    __device__ __forceinline__ bool meets(Key key) const { return key >> shift == lowest >> shift; }
};

/// The digit of the smallest key that is kept, and how many of the keys that have it are.
struct Digit {
    int value, wanted, count;
};

/// Of the largest keys, `wanted` are kept; histogram: of their digits. value -1: there are no more than that.
__device__ __forceinline__ Digit find_digit(const int (&histogram)[digits], int wanted) {
    __shared__ Digit found;
    if (threadIdx.x == 0) found = {-1, wanted, 0};
    const int value = digits - 1 - static_cast<int>(threadIdx.x), count = histogram[value];
    int all;
    const int above = block_exclusive_sum(count, all);  // synchronises
    if (all > wanted && above < wanted && wanted <= above + count) found = {value, wanted - above, count};
    __syncthreads();
    return found;
}

__device__ __forceinline__ Threshold find_threshold(const RowKeys& keys, int slots) {
    __shared__ int histogram[digits];
    Threshold threshold;
    int wanted = slots;
    while (threshold.shift > 0) {
        const int shift = threshold.shift - digit_bits;
        __syncthreads();  // the digit before has been read
        histogram[threadIdx.x] = 0;
        __syncthreads();
        keys.for_each([&](Key key) {
            if (threshold.meets(key)) atomicAdd(histogram + (key >> shift & (digits - 1)), 1);
        });
        __syncthreads();
        const Digit digit = find_digit(histogram, wanted);
        if (digit.value < 0) break;
        threshold.lowest |= static_cast<Key>(digit.value) << shift;
        threshold.shift = shift;
        wanted = digit.wanted;
        if (wanted == digit.count) break;  // all that have it
    }
    return threshold;
}

/// Largest first, by a bitonic network; size: a power of two.
__device__ __forceinline__ void sort_keys(Key* keys, int size) {
    for (int length = 2; length <= size; length *= 2) {
        for (int distance = length / 2; distance > 0; distance /= 2) {
            for (int pair = static_cast<int>(threadIdx.x); pair < size / 2; pair += threads) {
                const int at = pair / distance * (2 * distance) + pair % distance;
                const Key a = keys[at], b = keys[at + distance];
                if ((a < b) == ((at & length) == 0)) {
                    keys[at] = b;
                    keys[at + distance] = a;
                }
            }
            __syncthreads();
        }
    }
}

__global__ void __launch_bounds__(threads) select_best_kernel(const RouteParams p, int item_rows, int sorted_size) {
    __shared__ Key kept[most_selected_slots];
    __shared__ int kept_count;
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int t = static_cast<int>(threadIdx.x);
    const int index = static_cast<int>(blockIdx.x);  // among the rows of the launch
    const SelectedRow row(p, p.first_item + index / item_rows, index % item_rows, item_rows);
    if (row.token < 0) return;
    // Before the barriers of find_threshold(): what it shares lies beside the count, and may be read with it.
    if (t == 0) kept_count = 0;
    const RowKeys keys = {p.all_scores + static_cast<std::int64_t>(index) * p.score_pitch, row.candidates};
    const Threshold threshold = find_threshold(keys, p.slots);
    for (int i = t; i < sorted_size; i += threads) kept[i] = empty_key;
    __syncthreads();
    keys.for_each([&](Key key) {
        // Behind it nothing is empty_key: a score that is kept has no 0 in its bits.
        if (threshold.keeps(key)) kept[atomicAdd(&kept_count, 1)] = key;
    });
    __syncthreads();
    sort_keys(kept, sorted_size);

    std::int64_t to = (row.head * p.tokens_q + row.token) * (p.slots + p.first_block);
    if (p.first_block > 0 && t == 0) {
        p.selection[to] = row.blocks > 0 ? 0 : -1;
        if (p.scores != nullptr) p.scores[to] = row.blocks > 0 ? INFINITY : -INFINITY;
    }
    to += p.first_block;
    for (int slot = t; slot < p.slots; slot += threads) {
        const Key key = kept[slot];
        const int column = static_cast<int>(key & ((1u << column_bits) - 1));
        p.selection[to + slot] = key == empty_key ? -1 : (column >> p.sub_shift) + p.first_block;
        if (p.scores != nullptr) p.scores[to + slot] = score_of_bits(static_cast<std::uint32_t>(key >> column_bits));
    }
}

}  // namespace

Status launch_select_best(const RouteParams& p, int items, int item_rows, cudaStream_t stream) {
    const auto sorted_size = static_cast<int>(std::bit_ceil(static_cast<unsigned>(p.slots)));
    return launch_early("select_best_kernel", select_best_kernel, dim3(static_cast<unsigned>(items * item_rows)),
                        threads, 0, stream, p, item_rows, sorted_size);
}

}  // namespace mobalab::kernels::cuda
