#pragma once

#include <cstdint>

#include "kernels/cuda/portable/routing/route_shape.cuh"
#include "kernels/cuda/ptx/copy.cuh"

namespace mobalab::kernels::cuda::portable {

/// The summaries of an item on their way through two buffers: tiles from the highest blocks down (once more for a
/// second pass), pieces of a tile from its first columns on, the parts of a piece one behind the other. While one is
/// multiplied the next arrives. Every thread of the thread block does the same.
///
/// Chunk c (16 bytes) of row r lies at chunk c ^ (r % 8) of the row, so that ldmatrix meets no bank conflict. What a
/// tensor does not have is zero.
template <typename Shape>
class SummaryPieces {
public:
    __device__ __forceinline__ SummaryPieces(const RouteParams& params, unsigned char* buffers)
        : p(params), buffers_(buffers) {}

    __device__ __forceinline__ void begin(const RouteItem<Shape>& item) {
        const cuda::RouteParams& path = p.of_path;
        const int base = (path.column_base != nullptr ? __ldg(path.column_base + item.b) : item.b * path.columns_max) +
                         (path.first_block << path.sub_shift);
        const int last_row = min(item.row0 + Shape::rows, item.sequence.sq) - 1;
        limit_ = min(item.candidates(path, last_row), p.total_columns - base);  // whatever cu_seqlens says
        from_ = base * p.column_bytes + static_cast<std::int64_t>(item.head / path.heads_per_key_head) * p.chunks * 16;
        tile_ = item.tiles - 1;
        piece_ = part_ = 0;
        again_from_ = item.passes > 1 ? tile_ : -1;
        __syncthreads();  // the last pieces of the item before have been read
        ask();
    }

    /// The address of the next piece, which stays until the one after it is asked for.
    __device__ __forceinline__ std::uint32_t next() {
        ptx::cp_async_wait<0>();
        __syncthreads();  // it has arrived for all, and the piece before it has been read by all
        const std::uint32_t arrived = ptx::shared_address(buffers_) + buffer_ * Shape::piece_bytes;
        buffer_ ^= 1;
        ask();
        return arrived;
    }

private:
    /// To the buffer that next() will return.
    __device__ __forceinline__ void ask() {
        if (tile_ < 0) return;
        const int first = tile_ * Shape::tile_blocks + piece_ * Shape::piece_columns;
        const char* const from = p.summaries[part_] + from_ + first * p.column_bytes;
        unsigned char* const to = buffers_ + buffer_ * Shape::piece_bytes;
#pragma unroll
        for (int i = static_cast<int>(threadIdx.x); i < Shape::piece_columns * Shape::chunks; i += Shape::threads) {
            const int row = i / Shape::chunks, chunk = i % Shape::chunks;
            const bool exists = first + row < limit_ && chunk < p.chunks;
            ptx::cp_async_16(to + row * Shape::row_bytes + (chunk ^ (row % 8)) * 16,
                             exists ? from + row * p.column_bytes + chunk * 16 : p.summaries[0], exists);
        }
        ptx::cp_async_commit();
        if (++part_ < p.parts) return;
        part_ = 0;
        if (++piece_ < Shape::pieces) return;
        piece_ = 0;
        if (--tile_ >= 0 || !Shape::TopK::surveys) return;
        tile_ = again_from_;
        again_from_ = -1;
    }

    const RouteParams& p;
    unsigned char* buffers_;
    std::int64_t from_ = 0;                // bytes to column 0 of the item
    int limit_ = 0;                        // columns that exist
    int tile_ = 0, piece_ = 0, part_ = 0;  // what is asked for next
    int again_from_ = -1;                  // where a second pass begins
    int buffer_ = 0;
};

}  // namespace mobalab::kernels::cuda::portable
