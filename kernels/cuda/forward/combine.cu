#include "kernels/cuda/forward/combine.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/forward/run_softmax.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/quad_transpose.cuh"

namespace mobalab::kernels::cuda {
namespace {

constexpr int threads_per_block = 256;

/// Lanes that share a query: one 16-byte piece of a partial row each; a power of two, so head_dim 96 idles a quarter.
template <int HeadDim>
constexpr int lanes_per_query = HeadDim == 96 ? 16 : HeadDim / 8;

/// Position of query token t of the batch, which lies at `place`, among the keys of its sequence; -1 for a query before
/// its first key.
__device__ __forceinline__ int position_of(const Sequences& sequences, int token, const Place& place) {
    if (sequences.cu_seqlens_q == nullptr) return place.token + sequences.seqlen_k - sequences.seqlen_q;
    if (sequences.refused()) return -1;
    int low = 0, high = sequences.batch;  // cu[low] <= token < cu[high]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (__ldg(sequences.cu_seqlens_q + middle) <= token ? low : high) = middle;
    }
    const Sequence sequence = sequences.at(low);
    return max(-1, token - sequence.q_begin + sequence.shift());
}

/// The partials of one query beside the first one of its own block: further runs of that, then those of every list it
/// is in.
struct QueryPartials {
    std::int32_t own_row = 0;  ///< of run 1
    const std::int32_t* positions = nullptr;
    std::int64_t row_shift = 0;  ///< from list rows of run 0 to scratch rows
    int own_count = 0;
    int count = 0;
    bool sees_own = false;  ///< so that there is a first partial

    __device__ __forceinline__ std::int32_t row(const PartialLayout& partials, int index) const {
        if (index < own_count) return own_row + index * partials.tokens;
        if (index >= count) return -1;
        const int listed = index - own_count;
        const int position = __ldg(positions + listed / partials.runs);
        const std::int64_t row = listed % partials.runs * partials.list_rows() + position + row_shift;
        return position < 0 ? -1 : static_cast<std::int32_t>(row);
    }
};

/// head and token are absolute, window_of_launch is where they are.
__device__ __forceinline__ QueryPartials query_partials(const BlockForwardArgs& args, int window_of_launch,
                                                        const WindowOrigin& origin, int head, int token,
                                                        const Place& place) {
    const ListChunk& chunk = args.lists.chunk;
    QueryPartials query;
    const int position = args.causal ? position_of(args.sequences, token, place) : args.sequences.refused() ? -1 : 0;
    if (position < 0) return query;
    query.sees_own = args.causal;
    query.own_row =
        static_cast<std::int32_t>(args.partials.own_row(window_of_launch, head - origin.head, 1, token - origin.token));
    query.positions = args.lists.positions + (static_cast<std::int64_t>(head - chunk.head_begin) * chunk.token_count +
                                              token - chunk.token_begin) *
                                                 args.slots;
    query.row_shift = -args.windows.first * args.partials.window_rows;
    query.own_count =
        args.partials.runs == 1 || !args.causal ? 0 : position % args.keys_per_list >> args.partials.run_shift;
    query.count = query.own_count + args.slots * args.partials.runs;
    return query;
}

/// 16 bytes that nobody reads again, or zeros. Volatile, so that the loads of a round stay together and are all in
/// flight at once.
__device__ __forceinline__ uint4 load_streaming(const void* address, bool valid) {
    uint4 value;
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n"
        "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
        "@p ld.global.cs.v4.b32 {%0, %1, %2, %3}, [%4];\n}"
        : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
        : "l"(address), "r"(static_cast<int>(valid)));
    return value;
}

template <typename T>
__device__ __forceinline__ void unpack_piece(uint4 piece, float (&element)[8]) {
    const std::uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
        const float2 pair = unpack<T>(words[w]);
        element[2 * w] = pair.x;
        element[2 * w + 1] = pair.y;
    }
}

/// Padded: the output's rows are narrower than HeadDim, and the first partial in scratch.
template <typename T, int HeadDim, bool Padded>
__global__ void __launch_bounds__(threads_per_block, 4) combine_kernel(const __grid_constant__ BlockForwardArgs args) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    constexpr int lanes = lanes_per_query<HeadDim>;
    constexpr int batch = lanes < 8 ? lanes : 8;  // partials in flight
    constexpr int pieces = HeadDim / 8;
    const ListChunk& chunk = args.lists.chunk;
    const int piece = static_cast<int>(threadIdx.x) % lanes;
    const int window_of_launch = static_cast<int>(blockIdx.y);
    const WindowOrigin origin = window_origin(args, args.windows.first + window_of_launch);
    const int mine = static_cast<int>(blockIdx.x * (threads_per_block / lanes) + threadIdx.x / lanes);
    const int head = origin.head + mine / args.partials.tokens, token = origin.token + mine % args.partials.tokens;
    // Whole warps go on, for the shuffles.
    const bool exists = mine < args.partials.heads * args.partials.tokens &&
                        head < chunk.head_begin + chunk.head_count && token < chunk.token_begin + chunk.token_count;
    const Place place = args.sequences.query(token);
    const QueryPartials query =
        exists ? query_partials(args, window_of_launch, origin, head, token, place) : QueryPartials{};

    char* const out_row = args.output.out.row(head, place);
    float* const lse = args.output.lse_of(head, token);
    const char* const partial_piece = static_cast<const char*>(args.partials.out) + piece * 16;

    // All queries of a warp make as many rounds as the longest: the shuffles need every lane.
    const int rounds = __reduce_max_sync(full_warp, static_cast<unsigned>(query.count + batch - 1) / batch);
    float sum[8], maximum = -INFINITY, weight_sum = 0.0f;
    {
        const char* first_row = out_row + piece * 16;
        const float* first_lse = lse;
        if constexpr (Padded) {
            const std::int64_t row =
                query.sees_own ? args.partials.own_row(window_of_launch, head - origin.head, 0, token - origin.token)
                               : 0;
            first_row = partial_piece + row * (HeadDim * 2);
            first_lse = args.partials.lse + row;
        }
        const uint4 first = load_streaming(first_row, query.sees_own && piece < pieces);
        if (query.sees_own && piece == 0) maximum = *first_lse;
        maximum = __shfl_sync(full_warp, maximum, 0, lanes);
        if (query.sees_own) weight_sum = 1.0f;
        unpack_piece<T>(first, sum);
    }
    for (int round = 0; round < rounds; ++round) {
        const std::int32_t own_row = piece < batch ? query.row(args.partials, round * batch + piece) : -1;
        std::int32_t rows[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            rows[i] = __shfl_sync(full_warp, own_row, i, lanes);
        }
        uint4 values[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            values[i] = load_streaming(partial_piece + static_cast<std::int64_t>(rows[i]) * (HeadDim * 2),
                                       rows[i] >= 0 && piece < pieces);
        }
        const float own_lse = own_row >= 0 ? __ldg(args.partials.lse + own_row) : -INFINITY;
        float highest = own_lse;
#pragma unroll
        for (int distance = lanes / 2; distance > 0; distance /= 2) {
            highest = fmaxf(highest, __shfl_xor_sync(full_warp, highest, distance));
        }
        highest = fmaxf(highest, maximum);
        const float reference = highest == -INFINITY ? 0.0f : highest;
        const float rescale = ptx::exp2_approx(maximum - reference);
        const float own_weight = ptx::exp2_approx(own_lse - reference);
        maximum = highest;
        weight_sum *= rescale;
#pragma unroll
        for (float& s : sum) s *= rescale;
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            const float weight = __shfl_sync(full_warp, own_weight, i, lanes);
            weight_sum += weight;
            float element[8];
            unpack_piece<T>(values[i], element);
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                sum[e] = fmaf(weight, element[e], sum[e]);
            }
        }
    }

    const float inverse = weight_sum != 0.0f ? 1.0f / weight_sum : 0.0f;  // NaN stays NaN
    uint4 result = make_uint4(pack<T>(sum[0] * inverse, sum[1] * inverse), pack<T>(sum[2] * inverse, sum[3] * inverse),
                              pack<T>(sum[4] * inverse, sum[5] * inverse), pack<T>(sum[6] * inverse, sum[7] * inverse));
    result = quad_transpose(result, piece % 4);
    if (!exists) return;
    if (piece < (Padded ? args.value_pieces : pieces)) *reinterpret_cast<uint4*>(out_row + piece * 16) = result;
    if (piece == 0) *lse = log_of_sum(maximum, weight_sum);
}

template <typename T, int HeadDim, bool Padded>
Status launch_kernel(const BlockForwardArgs& args, cudaStream_t stream) {
    constexpr int queries_per_block = threads_per_block / lanes_per_query<HeadDim>;
    const std::int32_t queries = args.partials.heads * args.partials.tokens;
    const auto blocks = static_cast<unsigned>((queries + queries_per_block - 1) / queries_per_block);
    return launch_early("combine", combine_kernel<T, HeadDim, Padded>,
                        dim3(blocks, static_cast<unsigned>(args.windows.count)), threads_per_block, 0, stream, args);
}

template <typename T, int HeadDim>
Status launch(const BlockForwardArgs& args, cudaStream_t stream) {
    return args.partials.first_own == 0 ? launch_kernel<T, HeadDim, true>(args, stream)
                                        : launch_kernel<T, HeadDim, false>(args, stream);
}

template <typename T>
Status launch_dtype(int width, const BlockForwardArgs& args, cudaStream_t stream) {
    switch (width) {
        case 32:
            return launch<T, 32>(args, stream);
        case 64:
            return launch<T, 64>(args, stream);
        case 96:
            return launch<T, 96>(args, stream);
        case 128:
            return launch<T, 128>(args, stream);
        default:
            return launch<T, 256>(args, stream);
    }
}

}  // namespace

Status launch_combine(DataType dtype, int width, const BlockForwardArgs& args, cudaStream_t stream) {
    return dtype == DataType::bf16 ? launch_dtype<__nv_bfloat16>(width, args, stream)
                                   : launch_dtype<__half>(width, args, stream);
}

}  // namespace mobalab::kernels::cuda
