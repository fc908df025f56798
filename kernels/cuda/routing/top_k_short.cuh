#pragma once

#include <cstdint>

#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/routing/best_of_row.cuh"
#include "kernels/cuda/routing/row_buffers.cuh"
#include "kernels/cuda/routing/threshold_finder.cuh"
#include "kernels/cuda/routing/top_k_key.cuh"

// Exact top-k for short lists (fewer than 16), one warp for 16 rows, nothing shared between warps.
//
// Every row has a floor that at least `slots` of its scores reach, or all. What is not below it is marked in a bit mask
// per lane, without branches, and appended to the row's buffer in shared memory. After a few tiles, then whenever the
// number of tiles has grown by a factor (each time about as many scores pass), and at the end, a buffer is cut down to
// its best, and the floor rises above the worst of them. That is in all warps of a warpgroup at the same tile: they
// meet at every product, so one that stops alone stops all. A buffer that would overflow in between is cut down before,
// so the result never depends on a capacity.
//
// A tile is taken in two steps: take() is the last to read the scores, so the next tile's product may follow it;
// append() works from a copy in shared memory (registers cannot be indexed) while that product is under way.
namespace mobalab::kernels::cuda {

/// The state of one warp over the tiles of its 16 rows. Size: a power of two, at least `slots` + 1. Capacity: scores a
/// row's buffer holds.
template <int Size_, int Capacity>
class ShortTopK {
public:
    static constexpr int Size = Size_;
    static_assert(Size == 8 || Size == 16);
    static constexpr int tile_blocks = 64, values = tile_blocks / 2;  // of a lane
    static constexpr bool surveys = false, stores_scores = false;
    /// Tiles before the first cut (floors come from the finder until then), and by what this number grows, in halves.
    static constexpr int first_cut = Size == 8 ? 3 : 2, cut_growth = Size == 8 ? 5 : 4;
    /// Floors may be rough (they are then off by up to 2^-7 of themselves) while none is more than this many times the
    /// spread of what its row keeps.
    static constexpr float most_rounded = 128.0f;
    /// Tiles that the finder sees: another one would lower the number of marked scores by less than it costs.
    static constexpr int found_tiles = 2;

private:
    static constexpr int quarters = 4;  // of a tile: 8 values of a lane, 16 columns of a row
    static_assert(Size + tile_blocks / quarters <= Capacity, "room for a quarter of a tile after a cut");
    static constexpr std::uint32_t place_bits = Capacity <= 32 ? 5 : 6, place_mask = (1u << place_bits) - 1;
    static_assert(Capacity <= 1 << place_bits);
    using Rows = RowBuffers<Capacity>;
    static_assert(Rows::values == values);

public:
    static constexpr int shared_bytes = Rows::shared_bytes;  // of a warp

    __device__ __forceinline__ ShortTopK(unsigned char* shared, int slots, int lane)
        : rows_(shared, lane), slots_(slots), lane_(lane) {}

    /// A row without any candidate never collects anything.
    __device__ __forceinline__ void begin(bool any0, bool any1) {
        floor_[0] = any0 ? lowest_floor : INFINITY;
        floor_[1] = any1 ? lowest_floor : INFINITY;
        finder_.reset();
        rows_.clear();
    }

    /// One tile: d as ptx::Wgmma writes it, masked columns are -inf. Tiles come in descending order of blocks, and
    /// `number` of them, this one included, have passed. False if buffers may have no room for what it marked.
    __device__ __forceinline__ bool take(const float (&d)[values], int number) {
        if (number <= found_tiles) find(d);
        rows_.mark(Rows::reaching(d, floor_));
        rows_.park(d);
        return rows_.surely_fit();
    }
    /// The same for tiles after the first cut, where floors may be rough.
    __device__ __forceinline__ bool take_roughly(const float (&d)[values]) {
        rows_.mark(Rows::roughly_reaching(d, floor_));
        rows_.park(d);
        return rows_.surely_fit();
    }
    /// A tile in which no row of the warp has candidates.
    __device__ __forceinline__ void take_nothing() { rows_.mark(0); }
    /// After a take() that gave false: lowers the number of marked scores as far as the tile allows. False if there is
    /// no room for them.
    __device__ __forceinline__ bool take_less(int number) {
        if (rows_.fit()) return true;
        float d[values];
        rows_.recall(d);
        if (number > found_tiles) find(d);  // once a tile, or scores would count twice
        rows_.mark(Rows::reaching(d, floor_));
        return rows_.fit();
    }
    /// Puts what take() marked into the buffers, which have room for it. Column c of the tile is block first_block + c.
    __device__ __forceinline__ void append(int first_block) { rows_.append(first_block); }

    /// The same and a cut; without room for all of the tile by quarters, with cuts where there is none: from the
    /// highest quarter down, since what comes after a cut must be of lower blocks: it has to beat what was kept. Leaves
    /// nothing marked. `due`: there is a cut at the end in any case.
    /// False: more than a few scores would reach rough floors that do not reach the floors.
    __device__ __forceinline__ bool append_and_cut(int first_block, bool room, bool due) {
        int quarter = room ? -1 : quarters - 1;
        if (room) append(first_block);
        bool again = true, rough;
        while (again) {
            rough = cut();
            again = false;
            if (quarter < 0) break;
            float d[values];
            rows_.recall(d);
            const std::uint32_t reached = Rows::reaching(d, floor_);
            while (quarter >= 0 && append_quarter(reached, first_block, quarter)) --quarter;
            again = quarter >= 0 || due;
        }
        rows_.mark(0);
        return rough;
    }

    /// After the cut of the last tile; -1 and -inf where a row has fewer.
    __device__ __forceinline__ int final_block(int row, int slot) const {
        const int block = load_block(rows_.blocks(row), slot);
        return block == Rows::no_block ? -1 : block;
    }
    __device__ __forceinline__ float final_score(int row, int slot) const {
        return load_score(rows_.scores(row), slot);
    }

private:
    float floor_[2];  // scores must reach it
    ThresholdFinder<Size / 4> finder_;
    Rows rows_;
    int slots_, lane_;

    /// Of the marks of a tile those of one quarter; false if there is no room for them.
    __device__ __forceinline__ bool append_quarter(std::uint32_t reached, int first_block, int quarter) {
        rows_.mark(reached & (0xffu << (8 * quarter)));
        if (!rows_.fit()) return false;
        append(first_block);
        return true;
    }

    /// Cuts all buffers down to their best `slots`, sorted. After the last tile these are the result.
    /// Gives whether floors may be rough.
    __device__ __forceinline__ bool cut() {
        __syncwarp();
        int lane = lane_;
        asm volatile("" : "+r"(lane));  // what follows from it is cheaper computed again than kept in registers
        const int row = lane % warp_rows, half = lane / warp_rows;
        const int filled = __shfl_sync(full_warp, static_cast<int>(rows_.filled()), 4 * (row % 8));
        const int count = (row < 8 ? filled & 0xffff : filled >> 16) / 4;
        const int longest = __reduce_max_sync(full_warp, count);
        const std::uint32_t scores = rows_.scores(row), blocks = rows_.blocks(row);

        // First by the upper bits of the scores, which leave room for the place: 32-bit keys sort in a third of the
        // instructions. Where these bits do not decide, by everything.
        constexpr int mine = Size / 2;  // places Size / 2 * half + j of the best are this lane's
        std::uint32_t best[mine];
        best_of_row(best, longest, half, [&](int place) {
            const std::uint32_t key = (ordered_bits(load_score(scores, place)) & ~place_mask) | place;
            // What is below any score and differs in its upper bits from all others.
            return place < count ? key : static_cast<std::uint32_t>(place) << place_bits;
        });
        const std::uint32_t border = half == 0 ? best[mine - 1] : best[0];
        std::uint32_t closest = border ^ __shfl_xor_sync(full_warp, border, 16);
#pragma unroll
        for (int j = 0; j + 1 < mine; ++j) closest = min(closest, best[j] ^ best[j + 1]);
        float score[mine];
        std::uint16_t block[mine];
        if (!__any_sync(full_warp, closest <= place_mask)) {
#pragma unroll
            for (int j = 0; j < mine; ++j) {
                const int place = static_cast<int>(best[j] & place_mask);
                score[j] = load_score(scores, place);
                block[j] = load_block(blocks, place);
            }
        } else {
            Key keys[mine];
            best_of_row(keys, longest, half, [&](int place) {
                const Key key = make_key(load_score(scores, place), load_block(blocks, place));
                return place < count ? key : empty_key;
            });
#pragma unroll
            for (int j = 0; j < mine; ++j) {
                score[j] = key_score(keys[j]);
                block[j] = static_cast<std::uint16_t>(keys[j]);
            }
        }
        __syncwarp();
        // What is behind the last slot never counts.
#pragma unroll
        for (int j = 0; j < mine; ++j) {
            const bool exists = j < count - mine * half;
            store_entry(scores + 4 * mine * half, blocks + 2 * mine * half, j, exists ? score[j] : -INFINITY,
                        exists ? block[j] : static_cast<std::uint16_t>(Rows::no_block));
        }
        __syncwarp();
        bool far = false;  // a rough floor from the floor
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const std::uint32_t best = rows_.scores(lane / 4 + 8 * h);
            floor_[h] = fmaxf(floor_[h], next_above(load_score(best, slots_ - 1)));
            far = far || fabsf(floor_[h]) > most_rounded * (load_score(best, 0) - floor_[h]);
        }
        __syncwarp();  // the next append may write where a lane has just looked, in a row of few scores
        rows_.keep(slots_, slots_);
        return !__any_sync(full_warp, far);
    }

    /// Raises the floors to what the finder sees in this tile.
    __device__ __forceinline__ void find(const float (&d)[values]) {
        finder_.add(d);
#pragma unroll
        for (int h = 0; h < 2; ++h) floor_[h] = fmaxf(floor_[h], finder_.threshold(h));
    }
};

}  // namespace mobalab::kernels::cuda
