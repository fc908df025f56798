#include "kernels/cuda/backward/gradient_rows.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/quad_transpose.cuh"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads_per_block = 256;

/// Lanes that share a row: one 16-byte piece each; a power of two, so 96 columns idle a quarter.
constexpr int lanes_per_row(int columns) {
    return static_cast<int>(std::bit_ceil(static_cast<unsigned>(columns / chunk_elements)));
}

template <typename T, int Lanes>
__global__ void __launch_bounds__(threads_per_block) lse_dot_kernel(const __grid_constant__ LseDotArgs args) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (threads_per_block / Lanes) + threadIdx.x / Lanes;
    const int piece = static_cast<int>(threadIdx.x) % Lanes;
    const std::int64_t token = row / args.head_count, head = args.head_begin + row % args.head_count;
    const bool exists = token < args.tokens_q;
    const std::int64_t at = head * args.tokens_q + token;
    const float lse = exists ? args.lse[at] : 0.0f;
    float dot = 0.0f;
    const Place place = args.sequences.query(static_cast<std::int32_t>(token));
    if (exists && piece < args.value_dim / chunk_elements) {
        float a[chunk_elements], b[chunk_elements];
        unpack<T>(__ldg(reinterpret_cast<const uint4*>(args.out.row(head, place)) + piece), a);
        unpack<T>(__ldg(reinterpret_cast<const uint4*>(args.d_out.row(head, place)) + piece), b);
#pragma unroll
        for (int e = 0; e < chunk_elements; ++e) dot = fmaf(a[e], b[e], dot);
    }
    if ((lse == INFINITY || (exists && !args.causal)) && piece < args.columns / chunk_elements) {
        reinterpret_cast<uint4*>(args.own.row(head, place))[piece] = uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int distance = Lanes / 2; distance > 0; distance /= 2) dot += __shfl_xor_sync(full_warp, dot, distance);
    if (!exists || piece > 0) return;
    args.lse_dot[at] = make_float2(lse * 1.4426950408889634f, dot);
}

/// Volatile, so that the loads of a round stay together and are all in flight at once; zeros where !valid.
__device__ __forceinline__ uint4 load_streaming(const void* address, bool valid) {
    uint4 value;
    asm volatile(
        "{\n"
        ".reg .pred p;\n"
        "setp.ne.b32 p, %5, 0;\n"
        "mov.b32 %0, 0;\n"
        "mov.b32 %1, 0;\n"
        "mov.b32 %2, 0;\n"
        "mov.b32 %3, 0;\n"
        "@p ld.global.cs.v4.b32 {%0, %1, %2, %3}, [%4];\n"
        "}"
        : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
        : "l"(address), "r"(static_cast<int>(valid)));
    return value;
}

template <typename T, int Lanes>
__global__ void __launch_bounds__(threads_per_block, 4)
    combine_gradient_kernel(const __grid_constant__ CombineGradientArgs args) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    if (args.sequences.refused()) return;
    constexpr int batch = Lanes < 8 ? Lanes : 8;  // partials in flight
    const ListChunk& chunk = args.queries.chunk;
    // Whole warps go on, for the shuffles.
    const WindowQueries::Query query = args.queries.at(blockIdx.x * (threads_per_block / Lanes) + threadIdx.x / Lanes);
    const int piece = static_cast<int>(threadIdx.x) % Lanes;
    const bool has_piece = piece < args.columns / chunk_elements;
    const Place place = args.sequences.query(query.token);
    const char* const own_piece = args.own.row(query.head, place) + piece * 16;
    const std::int64_t listed =
        static_cast<std::int64_t>(query.head - chunk.head_begin) * chunk.token_count + query.token - chunk.token_begin;
    const std::int32_t* const positions = args.positions + listed * args.slots;

    float sum[chunk_elements];
    const uint4 own = load_streaming(own_piece, query.exists && has_piece);
    for (int first = 0; first == 0 || first < args.slots; first += batch) {
        const bool asks = query.exists && piece < batch && first + piece < args.slots;
        const std::int32_t position = asks ? __ldg(positions + first + piece) : -1;
        uint4 values[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            const std::int32_t from = __shfl_sync(full_warp, position, i, Lanes);
            const std::int64_t offset = static_cast<std::int64_t>(from) * (args.columns * 2) + piece * 16;
            values[i] = load_streaming(args.partials + offset, from >= 0 && has_piece);
        }
        if (first == 0) unpack<T>(own, sum);
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            float part[chunk_elements];
            unpack<T>(values[i], part);
#pragma unroll
            for (int e = 0; e < chunk_elements; ++e) sum[e] += part[e];
        }
    }
    const uint4 result = quad_transpose(pack<T>(sum), piece % 4);
    if (!query.exists || piece >= args.head_dim / chunk_elements) return;
    reinterpret_cast<uint4*>(args.dq.row(query.head, place))[piece] = result;
}

/// A piece of 8 columns a thread.
template <typename T>
__global__ void __launch_bounds__(threads_per_block) round_rows_kernel(const __grid_constant__ RoundRowsArgs args) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * threads_per_block + threadIdx.x;
    const int pieces = args.head_dim / chunk_elements;
    const std::int64_t row = index / pieces, head = row % args.heads, token = row / args.heads;
    if (token >= args.batch * args.tokens) return;
    const Place place = {static_cast<std::int32_t>(token / args.tokens),
                         static_cast<std::int32_t>(token % args.tokens)};
    const std::int64_t piece = index % pieces;
    const float4* const sums = reinterpret_cast<const float4*>(args.sums.row(head, place)) + 2 * piece;
    const float4 low = sums[0], high = sums[1];
    const float values[chunk_elements] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    reinterpret_cast<uint4*>(args.out.row(head, place))[piece] = pack<T>(values);
}

template <typename T>
struct LseDot {
    template <int Lanes>
    static Status launch(const LseDotArgs& args, dim3 blocks, cudaStream_t stream) {
        return launch_early("lse_dot", lse_dot_kernel<T, Lanes>, blocks, threads_per_block, 0, stream, args);
    }
};

template <typename T>
struct CombineGradient {
    template <int Lanes>
    static Status launch(const CombineGradientArgs& args, dim3 blocks, cudaStream_t stream) {
        return launch_early("combine_gradient", combine_gradient_kernel<T, Lanes>, blocks, threads_per_block, 0, stream,
                            args);
    }
};

template <template <typename> typename Kernel, typename T, typename Args>
Status launch_lanes(const Args& args, cudaStream_t stream) {
    const int lanes = lanes_per_row(args.widest());
    const std::int64_t rows = args.rows(), per_block = threads_per_block / lanes;
    if (rows == 0) return {};
    const dim3 blocks(static_cast<unsigned>((rows + per_block - 1) / per_block));
    switch (lanes) {
        case 4:
            return Kernel<T>::template launch<4>(args, blocks, stream);
        case 8:
            return Kernel<T>::template launch<8>(args, blocks, stream);
        case 16:
            return Kernel<T>::template launch<16>(args, blocks, stream);
        default:
            return Kernel<T>::template launch<32>(args, blocks, stream);
    }
}

template <template <typename> typename Kernel, typename Args>
Status launch_dtype(DataType dtype, const Args& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_lanes<Kernel, __nv_bfloat16>(args, stream)
                                   : launch_lanes<Kernel, __half>(args, stream);
}

template <typename T>
Status launch_rounding(const RoundRowsArgs& args, cudaStream_t stream) {
    const std::int64_t pieces = args.batch * args.tokens * args.heads * (args.head_dim / chunk_elements);
    const dim3 blocks(static_cast<unsigned>((pieces + threads_per_block - 1) / threads_per_block));
    return launch_early("round_rows", round_rows_kernel<T>, blocks, threads_per_block, 0, stream, args);
}

}  // namespace

Status launch_round_rows(DataType dtype, const RoundRowsArgs& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_rounding<__nv_bfloat16>(args, stream)
                                   : launch_rounding<__half>(args, stream);
}

Status launch_lse_dot(DataType dtype, const LseDotArgs& args, cudaStream_t stream) {
    return launch_dtype<LseDot>(dtype, args, stream);
}

Status launch_combine_gradient(DataType dtype, const CombineGradientArgs& args, cudaStream_t stream) {
    return launch_dtype<CombineGradient>(dtype, args, stream);
}

}  // namespace mobalab::kernels::cuda
