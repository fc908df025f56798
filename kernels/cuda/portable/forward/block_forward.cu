#include "kernels/cuda/portable/forward/block_forward.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/forward/run_softmax.cuh"
#include "kernels/cuda/forward/work_unit.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/path.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/portable/forward/visible_keys.cuh"
#include "kernels/cuda/portable/tile_rows.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/mma.cuh"
#include "kernels/cuda/tile/computed_here.cuh"

// block_forward by mma.sync and cp.async. Thread blocks draw units of work; the keys and values of a unit lie in shared
// memory, and its warps take its queries in turns, 16 at a time (a *strip*), each on its own: a warp has a place for
// the rows of one strip, and asks for the next ones once the scores of its strip are in registers. No accumulator
// outlives a strip. So warps hide one another's latencies, and only the beginning of a unit needs all of them.
namespace mobalab::kernels::cuda::portable {
namespace {

constexpr int strip_rows = 16, strips_per_tile = rows_per_tile / strip_rows;

template <int Width>
struct Shape {
    static constexpr int keys = Width <= 128 ? 128 : 64;
    static constexpr int most_warps = Width <= 128 ? 8 : 4;
    static constexpr int registers = Width <= 128 ? 168 : 255;  // 12 warps a multiprocessor, or 8
    static constexpr int key_bytes = keys * Width * 2, strip_bytes = strip_rows * Width * 2;
};

/// A unit of work, in shared memory.
struct RunUnit {
    WorkUnit work;
    std::int32_t run_first = 0;  ///< its first key, counted from that of the list
};

template <int Width>
struct Shared {
    alignas(128) std::byte k[Shape<Width>::key_bytes];
    alignas(128) std::byte v[Shape<Width>::key_bytes];
    RunUnit units[2];
    alignas(128) std::byte q[Shape<Width>::most_warps * Shape<Width>::strip_bytes];  // as many as there are warps

    static constexpr std::size_t bytes(int warps) {
        return sizeof(Shared) - static_cast<std::size_t>(Shape<Width>::most_warps - warps) * Shape<Width>::strip_bytes;
    }
};

/// The next unit that has queries; one with negative tiles behind the last. A run behind the last key of the sequence
/// has queries where its list has blocks in the run before: they too get a partial, of weight 0.
template <int Keys>
__device__ __forceinline__ RunUnit draw_unit(const BlockForwardArgs& args, int count) {
    RunUnit unit;
    do {
        const int index = atomicAdd(args.next_unit, 1);
        if (index >= count) {
            unit.work.tiles = -1;
            return unit;
        }
        unit.work = make_unit<Keys>(args, index);
        unit.run_first = index % args.partials.runs * Keys;
    } while (unit.work.tiles == 0);
    return unit;
}

template <int Width>
__device__ __forceinline__ void load_run(std::byte* to, const RowTensor& from, const WorkUnit& unit, int pieces,
                                         int thread, int threads) {
    const char* const first = unit.keys > 0 ? from.row(unit.key_head, unit.key) : from.data;
    load_rows<Width, Shape<Width>::keys>(to, first, from.stride.token, unit.keys, pieces, thread, threads);
}

/// A warp's strips of a unit are every one of as many as there are warps, but for those without rows.
struct Strip {
    int number;
    std::uint32_t entry = 0;  ///< of row lane % 16

    /// The first one from a number on.
    __device__ __forceinline__ Strip(const BlockForwardArgs& args, const WorkUnit& unit, int from, int lane)
        : number(from) {
        const int warps = static_cast<int>(blockDim.x) / 32;
        for (; exists(unit); number += warps) {
            const TileRows of_tile = rows(unit);
            if (of_tile.first >= of_tile.limit) continue;
            entry = tile_entry(of_tile, args.lists.entries, 0, lane % strip_rows);
            return;
        }
    }
    __device__ __forceinline__ bool exists(const WorkUnit& unit) const { return number < unit.tiles * strips_per_tile; }
    __device__ __forceinline__ TileRows rows(const WorkUnit& unit) const {
        return tile_rows(unit, number / strips_per_tile, number % strips_per_tile);
    }
};

/// Asks for the query rows of a strip; rows that do not exist become zeros.
template <int Width>
__device__ __forceinline__ void gather(const BlockForwardArgs& args, const WorkUnit& unit, const Strip& strip,
                                       std::byte* q_rows, int lane) {
    constexpr int pieces = Width / 8, rows_per_step = 32 / pieces;
    lane = computed_here(lane);
    const std::uint32_t query = entry_query(strip.entry);
    const TileRows rows = strip.rows(unit);
    const int first = lane / pieces, piece = lane % pieces, count = rows.limit - rows.first;
    const char* const source = unit.q_rows + min(piece, args.pieces - 1) * 16;
#pragma unroll
    for (int step = 0; step < strip_rows / rows_per_step; ++step) {
        const int row = first + step * rows_per_step;
        const std::int64_t from = __shfl_sync(0xffffffffu, query, row);
        ptx::cp_async_16(q_rows + SwizzledRows<Width>::offset(row, piece), source + from * args.q.stride.token,
                         row < count && piece < args.pieces);
    }
}

template <typename T, int Width>
__device__ __forceinline__ void score(const std::byte* k, const std::byte* q_rows, int lane,
                                      float (&scores)[Shape<Width>::keys / 2]) {
    lane = computed_here(lane);
#pragma unroll
    for (float& s : scores) s = 0.0f;
#pragma unroll 2
    for (int step = 0; step < Width / 16; ++step) {
        std::uint32_t a[4];
        load_a<Width>(a, q_rows, 0, step, lane);
#pragma unroll
        for (int j = 0; j < Shape<Width>::keys / 8; j += 2) {
            std::uint32_t b[4];
            load_b<Width>(b, k, 8 * j, step, lane);
            ptx::mma<T>(scores + 4 * j, a, b[0], b[1]);
            ptx::mma<T>(scores + 4 * j + 4, a, b[2], b[3]);
        }
    }
}

template <typename T, int Width>
__device__ __forceinline__ void weigh_values(const std::byte* v,
                                             const std::uint32_t (&probabilities)[Shape<Width>::keys / 16][4], int lane,
                                             float (&out)[Width / 2]) {
    lane = computed_here(lane);
#pragma unroll
    for (float& x : out) x = 0.0f;
#pragma unroll
    for (int step = 0; step < Shape<Width>::keys / 16; ++step) {
#pragma unroll
        for (int j = 0; j < Width / 8; j += 2) {
            std::uint32_t b[4];
            load_b_transposed<Width>(b, v, 16 * step, j, lane);
            ptx::mma<T>(out + 4 * j, probabilities[step], b[0], b[1]);
            ptx::mma<T>(out + 4 * j + 4, probabilities[step], b[2], b[3]);
        }
    }
}

template <typename T, int Width>
__device__ __forceinline__ void process_unit(const BlockForwardArgs& args, const Shared<Width>& shared,
                                             const RunUnit& unit, Strip strip, std::byte* q_rows, int lane) {
    constexpr int keys = Shape<Width>::keys;
    const int warps = static_cast<int>(blockDim.x) / 32;
    Strip next(args, unit.work, strip.number + warps, lane);
    while (strip.exists(unit.work)) {
        ptx::cp_async_wait<0>();
        __syncwarp();
        float scores[keys / 2];
        score<T, Width>(shared.k, q_rows, lane, scores);
        __syncwarp();  // nobody reads the rows any more
        if (next.exists(unit.work)) gather<Width>(args, unit.work, next, q_rows, lane);
        ptx::cp_async_commit();
        const Strip behind(args, unit.work, next.number + warps, lane);  // its entries come in time
        const bool own = strip.rows(unit.work).own;
        if (own || hides_keys_of_lists<keys>(args, unit.work)) {
            visible_keys_of_run<keys>(args, unit.work, unit.run_first, own, strip.entry, lane)
                .template apply<keys / 8>(scores, 0);
        }
        std::uint32_t probabilities[keys / 16][4];
        OnlineSoftmax softmax;
        softmax.first<T>(scores, args.scale_log2, probabilities);
        float out[Width / 2];
        weigh_values<T, Width>(shared.v, probabilities, lane, out);
        const TileRows rows = strip.rows(unit.work);
        store_partials<T, Width>(partial_target<Width>(args.partials, unit.work, rows.own), rows, out, softmax.offset,
                                 softmax.sum, computed_here(lane));
        strip = next;
        next = behind;
    }
}

template <typename T, int Width>
__global__ void __maxnreg__(Shape<Width>::registers)
    block_forward_kernel(const __grid_constant__ BlockForwardArgs args) {
    constexpr int keys = Shape<Width>::keys;
    extern __shared__ std::byte dynamic[];
    Shared<Width>& shared = *reinterpret_cast<Shared<Width>*>(dynamic);
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int count = unit_count(args);
    if (threadIdx.x == 0) shared.units[0] = draw_unit<keys>(args, count);
    for (int n = 0;; ++n) {
        __syncthreads();  // the unit is known, and nobody reads the keys, values and description of the one before
        const RunUnit& unit = shared.units[n % 2];
        if (unit.work.tiles < 0) return;
        const int thread = computed_here(static_cast<int>(threadIdx.x)), lane = thread % 32;
        const int threads = static_cast<int>(blockDim.x);
        std::byte* const q_rows = shared.q + thread / 32 * Shape<Width>::strip_bytes;
        load_run<Width>(shared.k, args.k, unit.work, args.pieces, thread, threads);
        load_run<Width>(shared.v, args.v, unit.work, args.value_pieces, thread, threads);
        const Strip first(args, unit.work, thread / 32, lane);
        if (first.exists(unit.work)) gather<Width>(args, unit.work, first, q_rows, lane);
        ptx::cp_async_commit();
        if (thread == 0) shared.units[(n + 1) % 2] = draw_unit<keys>(args, count);
        ptx::cp_async_wait<0>();
        __syncthreads();
        process_unit<T, Width>(args, shared, unit, first, q_rows, lane);
    }
}

/// As many warps a thread block as make most of them fit on a multiprocessor; what they compute does not hang on it.
template <typename T, int Width>
Status launch(int multiprocessors, const BlockForwardArgs& args, cudaStream_t stream) {
    constexpr const char* name = "block_forward (portable)";
    constexpr std::size_t most_bytes = Shared<Width>::bytes(Shape<Width>::most_warps);
    static_assert(most_bytes <= portable_shared_memory, "more than a thread block has on small devices");
    const auto kernel = block_forward_kernel<T, Width>;
    if (Status s = allow_shared_memory(name, reinterpret_cast<const void*>(kernel), most_bytes); !s.ok()) return s;
    int warps = 0, blocks = 0;
    for (int w = Shape<Width>::most_warps; w >= 4; w -= 2) {
        int b = 0;
        const cudaError_t error =
            cudaOccupancyMaxActiveBlocksPerMultiprocessor(&b, kernel, 32 * w, Shared<Width>::bytes(w));
        if (error != cudaSuccess) return device_status(error, name);
        if (b * w <= blocks * warps) continue;
        warps = w;
        blocks = b;
    }
    return launch_early(name, kernel, dim3(static_cast<unsigned>(multiprocessors * blocks)),
                        static_cast<unsigned>(32 * warps), Shared<Width>::bytes(warps), stream, args);
}

template <typename T>
Status launch_width(int width, int multiprocessors, const BlockForwardArgs& args, cudaStream_t stream) {
    switch (width) {
        case 64:
            return launch<T, 64>(multiprocessors, args, stream);
        case 128:
            return launch<T, 128>(multiprocessors, args, stream);
        default:
            return launch<T, 256>(multiprocessors, args, stream);
    }
}

}  // namespace

ForwardShape forward_shape(const Problem& problem) {
    const std::int64_t widest = std::max(problem.head_dim, problem.value_dim());
    if (widest <= 64) return {64, Shape<64>::keys};
    if (widest <= 128) return {128, Shape<128>::keys};
    return {256, Shape<256>::keys};
}

Status launch_block_forward(DataType dtype, const ForwardShape& shape, int multiprocessors,
                            const BlockForwardArgs& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_width<__nv_bfloat16>(shape.width, multiprocessors, args, stream)
                                   : launch_width<__half>(shape.width, multiprocessors, args, stream);
}

}  // namespace mobalab::kernels::cuda::portable
