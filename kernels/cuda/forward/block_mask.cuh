#pragma once

#include <cstdint>

#include "kernels/cuda/forward/masked_forward.h"
#include "kernels/cuda/ptx/warp.cuh"

// From the selection of a thread block's rows to a mask in shared memory and a list of the runs that some row needs.
namespace mobalab::kernels::cuda {

/// The rows of a thread block.
struct RowTile {
    Sequence sequence;
    std::int32_t head = 0;
    std::int32_t first = 0;  ///< row in the sequence
    std::int32_t count = 0;  ///< rows that exist; 0: none

    /// Keys before this one are what a row may look at.
    __device__ __forceinline__ std::int32_t keys_end(int row, bool causal) const {
        return causal ? first + row + sequence.shift() + 1 : sequence.sk;
    }
};

/// The longest rows of all sequences and heads come first, so that short ones fill the gaps at the end of the launch.
/// Where checked_sequences() found boundaries wrong, the tokens are dealt out all the same, before no keys.
__device__ __forceinline__ RowTile row_tile(const MaskedForwardArgs& args) {
    const auto index = static_cast<std::int32_t>(blockIdx.x);
    const std::int32_t per_rank = args.heads_q * args.sequences.batch, of_rank = index % per_rank;
    const std::int32_t number = args.row_tiles - 1 - index / per_rank, b = of_rank / args.heads_q;
    RowTile tile;
    tile.head = of_rank % args.heads_q;
    if (args.sequences.refused()) {
        tile.sequence.sq = args.sequences.total_q;
        const std::int64_t first = (static_cast<std::int64_t>(b) * args.row_tiles + number) * masked_rows;
        tile.first = static_cast<std::int32_t>(min(first, static_cast<std::int64_t>(tile.sequence.sq)));
    } else {
        tile.sequence = args.sequences.at(b);
        tile.first = number * masked_rows;
    }
    tile.count = min(max(tile.sequence.sq - tile.first, 0), masked_rows);
    return tile;
}

/// Entry of the list of runs. Bit 30 + g: a row of half g of the thread block's rows needs it.
struct NeededRun {
    std::uint32_t packed;

    __device__ __forceinline__ std::int32_t run() const { return static_cast<std::int32_t>(packed & 0xffffffu); }
    __device__ __forceinline__ bool needed_by(int half) const { return (packed >> (30 + half) & 1u) != 0; }
};

/// In shared memory.
class BlockMask {
public:
    /// words: MaskLayout::bytes() bytes.
    __device__ __forceinline__ BlockMask(const MaskLayout& layout, std::uint32_t* words)
        : layout_(layout), words_(words), marked_(words + layout.words()), runs_(marked_ + layout.pieces) {}

    template <int Threads>
    __device__ __forceinline__ void clear() const {
        for (int i = static_cast<int>(threadIdx.x); i < layout_.words() + layout_.pieces; i += Threads) words_[i] = 0;
    }

    /// Marks what the rows may look at: selected candidates, and own blocks if causal. Between two __syncthreads().
    template <int Threads>
    __device__ __forceinline__ void mark(const MaskedForwardArgs& args, const RowTile& tile) const {
        const int thread = static_cast<int>(threadIdx.x);
        const int row = thread, position = tile.first + row + tile.sequence.shift();
        if (args.causal && row < tile.count && position >= 0) mark_block(row, args.block.divide(position));
        const std::int64_t first_row =
            static_cast<std::int64_t>(tile.head) * args.output.tokens_q + tile.sequence.q_begin + tile.first;
        const std::int32_t* const selected = args.selection + first_row * args.slots;
        const int count = tile.count * args.slots;
        constexpr int in_flight = 4;
        for (int i0 = thread; i0 < count; i0 += in_flight * Threads) {
            std::int32_t block[in_flight];
#pragma unroll
            for (int j = 0; j < in_flight; ++j) {
                const int i = i0 + j * Threads;
                block[j] = i < count ? __ldg(selected + i) : -1;
            }
#pragma unroll
            for (int j = 0; j < in_flight; ++j) {
                if (block[j] < 0) continue;
                const int of_row = args.slot.divide(i0 + j * Threads);
                const int candidates = args.candidates.of_row(tile.sequence, tile.first + of_row);
                if (block[j] < candidates) mark_block(of_row, block[j]);
            }
        }
    }

    /// One warp: lists the runs that a row needs, the last one first; returns their number. Runs that begin behind what
    /// the last row of a half may look at are not needed by it, whatever their block is.
    __device__ __forceinline__ int list_runs(const RowTile& tile, bool causal) const {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        int half_end[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            half_end[half] = tile.keys_end(min((half + 1) * masked_rows / 2, tile.count) - 1, causal);
        }
        const int runs = runs_before(half_end[1]);
        int listed = 0;
        for (int run0 = 0; run0 < runs; run0 += 32) {
            const int run = runs - 1 - run0 - lane;
            std::uint32_t needed = 0;
            if (run >= 0) {
                const std::uint32_t marked = marked_[layout_.piece_of_run(run)];
                if (run * keys_per_run < half_end[0]) needed |= (marked & 1u) << 30;
                if (run * keys_per_run < half_end[1]) needed |= (marked & 2u) << 30;
            }
            const std::uint32_t all = __ballot_sync(full_warp, needed != 0);
            if (needed != 0) {
                runs_[listed + __popc(all & ((1u << lane) - 1))] = static_cast<std::uint32_t>(run) | needed;
            }
            listed += __popc(all);
        }
        return listed;
    }

    __device__ __forceinline__ NeededRun listed(int index) const {
        return {runs_[index]};
    }

    /// A row's byte of a run.
    __device__ __forceinline__ std::uint32_t of(int run, int row) const {
        return reinterpret_cast<const std::uint8_t*>(words_)[layout_.piece_of_run(run) * masked_rows + row];
    }

private:
    __device__ __forceinline__ void mark_block(int row, int block) const {
        int piece = block;
        std::uint32_t bits = 0xffu;
        if (layout_.block_size < keys_per_run) {
            const int first_key = block * layout_.block_size;
            piece = first_key / keys_per_run;
            bits = ((1u << layout_.block_size / 16) - 1) << (first_key % keys_per_run / 16);
        }
        atomicOr(words_ + piece * (masked_rows / 4) + row / 4, bits << (row % 4 * 8));
        atomicOr(marked_ + piece, 1u << row / (masked_rows / 2));
    }

    static __device__ __forceinline__ int runs_before(int key) {
        return (max(key, 0) + keys_per_run - 1) / keys_per_run;
    }

    const MaskLayout& layout_;
    std::uint32_t* words_;
    std::uint32_t* marked_;  ///< of each piece: bit g for half g of the rows
    std::uint32_t* runs_;
};

}  // namespace mobalab::kernels::cuda
