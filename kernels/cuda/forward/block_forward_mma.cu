#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/block_forward.h"
#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/forward/query_gather.cuh"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/mma.cuh"

// block_forward in plain terms: four warps, mma.sync, cp.async, one tile after the other. It serves head_dim 256, whose
// keys and values leave the wgmma kernel no room, and judges that kernel at every other head_dim.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

constexpr int threads_per_block = 128;
constexpr int keys_per_step = 64;  // two online-softmax steps a run: half the score registers
constexpr int key_groups = keys_per_step / 8;

/// Rows of HeadDim elements, 16 bytes apart from a multiple of 128: ldmatrix meets no bank conflict.
template <int HeadDim>
struct Shared {
    static constexpr int pitch = HeadDim * 2 + 16;
    alignas(16) std::byte k[keys_per_run * pitch];
    alignas(16) std::byte v[keys_per_run * pitch];
    alignas(128) std::byte q[rows_per_tile * QueryRows<HeadDim>::pitch];
    std::int32_t drawn;
};

/// Any: whatever block size and, up to HeadDim, head_dim are; here and below.
template <int HeadDim, bool Any>
__device__ __forceinline__ void load_keys_and_values(const BlockForwardArgs& args, const WorkUnit& unit,
                                                     Shared<HeadDim>& shared) {
    constexpr int pieces = HeadDim / 8;
    // A real address also where nothing is read.
    const int last = max(unit.keys - 1, 0);
    const char* const k = unit.keys > 0 ? args.k.row(unit.key_head, unit.key) : args.k.data;
    const char* const v = unit.keys > 0 ? args.v.row(unit.key_head, unit.key) : args.v.data;
    for (int i = static_cast<int>(threadIdx.x); i < keys_per_run * pieces; i += threads_per_block) {
        const int key = i / pieces, piece = i % pieces;
        const int source = min(key, last);
        const auto load = [&](std::byte* to, const char* from, std::int64_t stride, int pieces_of_row) {
            const bool exists = key < unit.keys && (!Any || piece < pieces_of_row);
            const int source_piece = Any ? min(piece, pieces_of_row - 1) : piece;
            cp_async_16(to + key * Shared<HeadDim>::pitch + piece * 16, from + source * stride + source_piece * 16,
                        exists);
        };
        load(shared.k, k, args.k.stride.token, args.pieces);
        load(shared.v, v, args.v.stride.token, args.value_pieces);
    }
}

template <typename T, int HeadDim>
__device__ __forceinline__ void scores_of_step(const Shared<HeadDim>& shared, const std::byte* q_rows, int first_key,
                                               int lane, float (&scores)[4 * key_groups]) {
    constexpr int pitch = Shared<HeadDim>::pitch;
#pragma unroll
    for (float& s : scores) s = 0.0f;
#pragma unroll 4
    for (int s = 0; s < HeadDim / 16; ++s) {
        std::uint32_t q[4];
        ldmatrix_x4(q, q_rows + QueryRows<HeadDim>::offset(lane % 16, 2 * s + lane / 16));
#pragma unroll
        for (int j = 0; j < key_groups; j += 2) {
            std::uint32_t k[4];
            const int key = first_key + 8 * j + lane / 16 * 8 + lane % 8;
            ldmatrix_x4(k, shared.k + key * pitch + lane / 8 % 2 * 16 + s * 32);
            mma<T>(scores + 4 * j, q, k[0], k[1]);
            mma<T>(scores + 4 * j + 4, q, k[2], k[3]);
        }
    }
}

template <typename T, int HeadDim>
__device__ __forceinline__ void add_values_of_step(const Shared<HeadDim>& shared,
                                                   const float (&probabilities)[4 * key_groups], int first_key,
                                                   int lane, float (&out)[HeadDim / 2]) {
    constexpr int pitch = Shared<HeadDim>::pitch;
#pragma unroll
    for (int s = 0; s < keys_per_step / 16; ++s) {
        std::uint32_t p[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            p[r] = pack<T>(probabilities[8 * s + 2 * r], probabilities[8 * s + 2 * r + 1]);
        }
#pragma unroll
        for (int j = 0; j < HeadDim / 8; j += 2) {
            std::uint32_t v[4];
            ldmatrix_x4_transposed(v, shared.v + (first_key + 16 * s + lane % 16) * pitch + (j + lane / 16) * 16);
            mma<T>(out + 4 * j, p, v[0], v[1]);
            mma<T>(out + 4 * j + 4, p, v[2], v[3]);
        }
    }
}

/// hide(scores, first_key): -inf for keys that a row must not see, of a step from first_key on.
template <typename T, int HeadDim, typename Hide>
__device__ __forceinline__ void process_rows(const BlockForwardArgs& args, const WorkUnit& unit, const TileRows& rows,
                                             const Hide& hide, const Shared<HeadDim>& shared, const std::byte* q_rows,
                                             int lane) {
    float out[HeadDim / 2] = {};
    float maximum[2] = {-INFINITY, -INFINITY}, offset[2] = {}, sum[2] = {};
#pragma unroll 1
    for (int first_key = 0; first_key < keys_per_run; first_key += keys_per_step) {
        float scores[4 * key_groups];
        scores_of_step<T, HeadDim>(shared, q_rows, first_key, lane, scores);
        hide(scores, first_key);
        float highest[2] = {maximum[0], maximum[1]};
#pragma unroll
        for (int i = 0; i < 4 * key_groups; ++i) {
            highest[i / 2 % 2] = fmaxf(highest[i / 2 % 2], scores[i]);
        }
        float rescale[2], added[2] = {};
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            highest[h] = quad_max(highest[h]);
            offset[h] = highest[h] == -INFINITY ? 0.0f : highest[h] * args.scale_log2;
            rescale[h] = maximum[h] == -INFINITY ? 0.0f : exp2_approx(fmaf(maximum[h], args.scale_log2, -offset[h]));
            maximum[h] = highest[h];
        }
#pragma unroll
        for (int i = 0; i < 4 * key_groups; ++i) {
            scores[i] = exp2_approx(fmaf(scores[i], args.scale_log2, -offset[i / 2 % 2]));
            added[i / 2 % 2] += scores[i];
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            sum[h] = sum[h] * rescale[h] + quad_sum(added[h]);
        }
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) {
            out[i] *= rescale[i / 2 % 2];
        }
        add_values_of_step<T, HeadDim>(shared, scores, first_key, lane, out);
    }
    store_partials<T, HeadDim>(partial_target<HeadDim>(args.partials, unit, rows.own), rows, out, offset, sum, lane);
}

template <typename T, int HeadDim, bool Any>
__global__ void __launch_bounds__(threads_per_block, 1)
    block_forward_mma_kernel(const __grid_constant__ BlockForwardArgs args) {
    extern __shared__ std::byte dynamic[];
    Shared<HeadDim>& shared = *reinterpret_cast<Shared<HeadDim>*>(dynamic);
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    std::byte* const q_rows = shared.q + warp * 16 * QueryRows<HeadDim>::pitch;
    wait_for_previous_kernel();
    let_next_kernel_launch();
    const int count = unit_count(args);
    while (true) {
        __syncthreads();  // the last unit's keys and values are no longer read
        if (threadIdx.x == 0) shared.drawn = atomicAdd(args.next_unit, 1);
        __syncthreads();
        const int index = shared.drawn;
        if (index >= count) return;
        const WorkUnit unit = make_unit(args, index);
        if (unit.tiles == 0) continue;
        load_keys_and_values<HeadDim, Any>(args, unit, shared);
        for (int tile = 0; tile < unit.tiles; ++tile) {
            const TileRows rows = tile_rows(unit, tile, warp);
            const std::uint32_t entry = tile_entry(rows, args.lists.entries, 0, lane % 16);
            __syncwarp();  // the last tile's queries are no longer read
            gather_queries<HeadDim, Any>(unit.q_rows, args.q.stride.token, entry, q_rows, rows.limit - rows.first, lane,
                                         args.pieces);
            cp_async_commit();
            cp_async_wait<0>();
            if (tile == 0) {
                __syncthreads();
            } else {
                __syncwarp();
            }
            if constexpr (Any) {
                const VisibleKeys visible = visible_keys(args, unit, rows.own, entry, lane);
                const auto hide = [&](float(&scores)[4 * key_groups], int first_key) {
                    visible.apply<key_groups>(scores, first_key);
                };
                process_rows<T, HeadDim>(args, unit, rows, hide, shared, q_rows, lane);
            } else {
                const ScoreMask mask =
                    rows.own ? own_mask(unit, entry, lane) : listed_mask(entry, args.block_size, lane);
                const auto hide = [&](float(&scores)[4 * key_groups], int first_key) {
                    if (rows.own) {
                        mask.apply_own<key_groups>(scores, first_key, args.block_size, lane);
                    } else if (args.block_size < keys_per_run) {
                        mask.apply_selected<key_groups>(scores, first_key);
                    }
                };
                process_rows<T, HeadDim>(args, unit, rows, hide, shared, q_rows, lane);
            }
        }
    }
}

template <typename T, int HeadDim, bool Any = false>
Status launch(int multiprocessors, const BlockForwardArgs& args, cudaStream_t stream) {
    const auto kernel = block_forward_mma_kernel<T, HeadDim, Any>;
    constexpr std::size_t bytes = sizeof(Shared<HeadDim>);
    constexpr int blocks_per_multiprocessor = static_cast<int>(227 * 1024 / (bytes + 1024));
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
    if (error != cudaSuccess) return device_status(error, "block_forward (mma)");
    return launch_early("block_forward (mma)", kernel,
                        dim3(static_cast<unsigned>(multiprocessors * blocks_per_multiprocessor)), threads_per_block,
                        bytes, stream, args);
}

template <typename T>
Status launch_dtype(int width, int multiprocessors, const BlockForwardArgs& args, cudaStream_t stream) {
    if (has_shapes_of_any(args)) {
        if (width == 256) return launch<T, 256, true>(multiprocessors, args, stream);
        return {StatusCode::unsupported, "block_forward (mma): shapes of any kind at width 256 alone"};
    }
    switch (width) {
        case 32:
            return launch<T, 32>(multiprocessors, args, stream);
        case 64:
            return launch<T, 64>(multiprocessors, args, stream);
        case 96:
            return launch<T, 96>(multiprocessors, args, stream);
        case 128:
            return launch<T, 128>(multiprocessors, args, stream);
        default:
            return launch<T, 256>(multiprocessors, args, stream);
    }
}

}  // namespace

Status launch_block_forward_mma(DataType dtype, int width, int multiprocessors, const BlockForwardArgs& args,
                                cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_dtype<__nv_bfloat16>(width, multiprocessors, args, stream)
                                   : launch_dtype<__half>(width, multiprocessors, args, stream);
}

}  // namespace mobalab::kernels::cuda
