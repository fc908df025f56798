#pragma once

#include <cstdint>

#include "kernels/cuda/portable/routing/route_shape.cuh"
#include "kernels/cuda/ptx/copy.cuh"

namespace mobalab::kernels::cuda::portable {

/// The summaries of an item on their way through two buffers, a piece of one part at a time, in the order in which they
/// are asked for: while one is multiplied the next arrives. Every thread of the thread block does the same.
///
/// Chunk c (16 bytes) of row r lies at chunk c ^ (r % 8) of the row, so that ldmatrix meets no bank conflict. What the
/// tensor does not have is zero; columns of other sequences are hidden later, like all that are no candidates.
template <typename Shape>
class SummaryPieces {
public:
    __device__ __forceinline__ SummaryPieces(const RouteParams& params, unsigned char* buffers)
        : p(params), buffers_(buffers) {}

    __device__ __forceinline__ void begin(const RouteItem<Shape>& item) {
        const cuda::RouteParams& path = p.of_path;
        base_ = (path.column_base != nullptr ? __ldg(path.column_base + item.b) : item.b * path.columns_max) +
                (path.first_block << path.sub_shift);
        head_bytes_ = item.head / path.heads_per_key_head * p.chunks * 16;
        __syncthreads();  // the last pieces of the item before have been read
        ask(item.tiles - 1, 0, 0);
    }

    /// The address of the piece that was asked for. Asks for the next one, of tile `tile` if that is not negative.
    __device__ __forceinline__ std::uint32_t next(int tile, int piece, int part) {
        ptx::cp_async_wait<0>();
        __syncthreads();  // it has arrived for all, and the piece before it has been read by all
        const std::uint32_t arrived = ptx::shared_address(buffers_) + buffer_ * Shape::piece_bytes;
        buffer_ ^= 1;
        if (tile >= 0) ask(tile, piece, part);
        return arrived;
    }

private:
    /// To the buffer that next() will return.
    __device__ __forceinline__ void ask(int tile, int piece, int part) {
        const int first = base_ + tile * Shape::tile_blocks + piece * Shape::piece_columns;
        const int columns = p.total_columns - first;  // whatever cu_seqlens says
        const char* const from = p.summaries[part] + head_bytes_ + first * p.column_bytes;
        unsigned char* const to = buffers_ + buffer_ * Shape::piece_bytes;
#pragma unroll
        for (int i = static_cast<int>(threadIdx.x); i < Shape::piece_columns * Shape::chunks; i += Shape::threads) {
            const int row = i / Shape::chunks, chunk = i % Shape::chunks;
            const bool exists = row < columns && chunk < p.chunks;
            ptx::cp_async_16(to + row * Shape::row_bytes + (chunk ^ (row % 8)) * 16,
                             exists ? from + row * p.column_bytes + chunk * 16 : p.summaries[0], exists);
        }
        ptx::cp_async_commit();
    }

    const RouteParams& p;
    unsigned char* buffers_;
    int base_ = 0, head_bytes_ = 0;  // where column 0 of the item is
    int buffer_ = 0;
};

}  // namespace mobalab::kernels::cuda::portable
