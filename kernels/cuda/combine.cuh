#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/block_forward.h"
#include "kernels/cuda/partial_store.cuh"
#include "kernels/cuda/ptx/matrix.cuh"
#include "kernels/cuda/work_unit.cuh"

// Joins the partials of queries into their output rows and log-sum-exps, in the place of their first partials: memory
// traffic only, 16 bytes a lane, the partials of a query always in the same order.
namespace mobalab::kernels::cuda {

inline constexpr std::uint32_t full_warp = 0xffffffffu;

/// Lanes that share a query: one 16-byte piece of a partial row each; a power of two, so head_dim 96 idles a quarter.
template <int HeadDim>
constexpr int lanes_per_query = HeadDim == 96 ? 16 : HeadDim / 8;

/// Partials of a query that are loaded at once.
template <int HeadDim>
constexpr int partials_at_once = lanes_per_query<HeadDim> < 8 ? lanes_per_query<HeadDim> : 8;

/// Position of query token t of the batch among the keys of its sequence; -1 for a query before its first key.
__device__ __forceinline__ int position_of(const Sequences& sequences, int token) {
    if (sequences.cu_seqlens_q == nullptr) {
        return token % sequences.seqlen_q + sequences.seqlen_k - sequences.seqlen_q;
    }
    int low = 0, high = sequences.batch;  // cu[low] <= token < cu[high]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (__ldg(sequences.cu_seqlens_q + middle) <= token ? low : high) = middle;
    }
    const Sequence sequence = sequences.at(low);
    return max(-1, token - sequence.q_begin + sequence.shift());
}

/// The partials of one query beside the one in its output row: further runs of its own block, then those of every list
/// it is in.
struct QueryPartials {
    char* out_row = nullptr;  ///< null: no query
    float* lse = nullptr;
    const std::int32_t* positions = nullptr;
    std::int32_t own_row = 0;  ///< of run 1
    std::int32_t row_shift = 0;
    int own_count = 0;
    int count = 0;
    bool sees_keys = false;

    __device__ __forceinline__ std::int32_t row(const PartialLayout& partials, int index) const {
        if (index < own_count) return own_row + index * partials.tokens;
        if (index >= count) return -1;
        const int listed = index - own_count;
        const int position = __ldg(positions + listed / partials.runs);
        const auto run_rows = static_cast<std::int32_t>(partials.list_rows());
        return position < 0 ? -1 : listed % partials.runs * run_rows + row_shift + position;
    }
};

/// head and token are counted from the beginning of the window.
__device__ __forceinline__ QueryPartials query_partials(const BlockForwardArgs& args, int window, int head, int token) {
    const ListChunk& chunk = args.lists.chunk;
    const WindowOrigin origin = window_origin(args, window);
    const int head_of_all = origin.head + head, token_of_batch = origin.token + token;
    QueryPartials query;
    query.out_row = args.output.row(head_of_all, token_of_batch);
    query.lse = args.output.lse_of(head_of_all, token_of_batch);
    const int position = position_of(args.sequences, token_of_batch);
    if (position < 0) return query;
    query.sees_keys = true;
    query.positions =
        args.lists.positions + (static_cast<std::int64_t>(head_of_all - chunk.head_begin) * chunk.token_count +
                                token_of_batch - chunk.token_begin) *
                                   args.selected;
    query.own_row = static_cast<std::int32_t>(args.partials.own_row(window, head, 1, token));
    query.row_shift = static_cast<std::int32_t>(args.partials.row_shift(window));
    query.own_count = args.partials.runs == 1 ? 0 : position % args.keys_per_list / keys_per_run;
    query.count = query.own_count + args.selected * args.partials.runs;
    return query;
}

/// 16 bytes from L2 (partials are rewritten during a launch, which L1 would not notice), or zeros.
/// Volatile, so that the loads of a round stay together and are all in flight at once.
__device__ __forceinline__ uint4 load_piece(const void* address, bool valid) {
    uint4 value;
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %5, 0;\n"
        "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
        "@p ld.global.cg.v4.b32 {%0, %1, %2, %3}, [%4];\n}"
        : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
        : "l"(address), "r"(static_cast<int>(valid))
        : "memory");
    return value;
}

/// The piece of lane t of a quad holds columns 8 i + 2 t + {0, 1} in word i; afterwards columns 8 t + 2 i + {0, 1}.
__device__ __forceinline__ uint4 transpose_quad(uint4 piece, int lane) {
    std::uint32_t a[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int distance = 1; distance <= 2; distance *= 2) {
        const bool upper = (lane & distance) != 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if ((i & distance) != 0) continue;
            std::uint32_t& low = a[i];
            std::uint32_t& high = a[i | distance];
            const std::uint32_t received = __shfl_xor_sync(full_warp, upper ? low : high, distance);
            (upper ? low : high) = received;
        }
    }
    return make_uint4(a[0], a[1], a[2], a[3]);
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

/// One query per lanes_per_query lanes; every lane of the warp calls it. `first_row`: row() of this lane's partial of
/// the first round, or -1.
template <typename T, int HeadDim>
__device__ __forceinline__ void join_partials(const BlockForwardArgs& args, const QueryPartials& query,
                                              std::int32_t first_row, int piece) {
    constexpr int lanes = lanes_per_query<HeadDim>, batch = partials_at_once<HeadDim>;
    constexpr float ln2 = 0.693147180559945309f;
    const bool holds_piece = piece < HeadDim / 8;
    const char* const partial_piece = static_cast<const char*>(args.partials.out) + piece * 16;

    float sum[8], maximum = query.sees_keys ? __ldcg(query.lse) : -INFINITY;
    float weight_sum = query.sees_keys ? 1.0f : 0.0f;
    unpack_piece<T>(load_piece(query.out_row + piece * 16, query.sees_keys && holds_piece), sum);

    // All queries of a warp make as many rounds as the longest: the shuffles need every lane.
    const int rounds = __reduce_max_sync(full_warp, static_cast<unsigned>(query.count + batch - 1) / batch);
    std::int32_t next_row = first_row;
#pragma unroll 1
    for (int round = 0; round < rounds; ++round) {
        const std::int32_t own_row = next_row;
        const int next = (round + 1) * batch + piece;
        next_row = round + 1 < rounds && piece < batch ? query.row(args.partials, next) : -1;
        const float own_lse = own_row >= 0 ? __ldcg(args.partials.lse + own_row) : -INFINITY;
        uint4 values[batch];
#pragma unroll
        for (int i = 0; i < batch; ++i) {
            const std::int32_t row = __shfl_sync(full_warp, own_row, i, lanes);
            values[i] =
                load_piece(partial_piece + static_cast<std::int64_t>(row) * (HeadDim * 2), row >= 0 && holds_piece);
        }
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

    const float inverse = weight_sum > 0.0f ? 1.0f / weight_sum : 0.0f;
    uint4 result = make_uint4(pack<T>(sum[0] * inverse, sum[1] * inverse), pack<T>(sum[2] * inverse, sum[3] * inverse),
                              pack<T>(sum[4] * inverse, sum[5] * inverse), pack<T>(sum[6] * inverse, sum[7] * inverse));
    result = transpose_quad(result, piece % 4);
    if (query.out_row == nullptr) return;
    if (holds_piece) store_streaming(query.out_row + piece * 16, result);
    if (piece == 0) *query.lse = weight_sum > 0.0f ? (maximum + __log2f(weight_sum)) * ln2 : INFINITY;
}

/// A warp's share of the queries of a window: those of step `first`, first + stride, ... where a step is 32 /
/// lanes_per_query of them.
template <typename T, int HeadDim>
__device__ __forceinline__ void combine_share(const BlockForwardArgs& args, int window, int first, int stride,
                                              int lane) {
    constexpr int lanes = lanes_per_query<HeadDim>, queries_per_step = 32 / lanes;
    const WindowOrigin origin = window_origin(args, window);
    const ListChunk& chunk = args.lists.chunk;
    const int tokens = min(args.partials.tokens, chunk.token_begin + chunk.token_count - origin.token);
    const int heads = min(args.partials.heads, chunk.head_begin + chunk.head_count - origin.head);
    const int queries = max(heads, 0) * max(tokens, 0);  // a group of heads times a window fits 31 bits: lists.h
    if (first * queries_per_step >= queries) return;

    const int piece = lane % lanes;
    int mine = first * queries_per_step + lane / lanes;
    // Where a query's partials lie is looked up while the one before it is joined.
    QueryPartials next;
    std::int32_t next_row = -1;
    const auto look_up = [&] {
        next = mine < queries ? query_partials(args, window, mine / tokens, mine % tokens) : QueryPartials{};
        next_row = piece < partials_at_once<HeadDim> ? next.row(args.partials, piece) : -1;
    };
    look_up();
#pragma unroll 1
    for (int step = first; step * queries_per_step < queries; step += stride) {
        const QueryPartials query = next;
        const std::int32_t row = next_row;
        mine += stride * queries_per_step;
        look_up();
        join_partials<T, HeadDim>(args, query, row, piece);
    }
}

}  // namespace mobalab::kernels::cuda
