#include "kernels/cuda/decode/score.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/cuda/decode/cache_table.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"

// Few queries against many summaries: bound by reading the summaries, once for all rows of a key head (at most
// most_rows of them at a time). A team of lanes takes a summary, 8 channels a lane, and adds up in a fixed order, the
// same for all, so that equal summaries have equal scores.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 128;
constexpr int teams_blocks = 8;     // blocks of a team; a thread block then has 32 (head_dim 256) to 1024 (8)
constexpr int loads_in_flight = 4;  // 16 bytes each (32 of fp32 summaries), of a lane
constexpr int most_rows = 8, most_rows_of_ranges = 4;  // of a thread block; two maps of a query take more registers

struct Params {
    CacheTable cache;
    DecodeRows rows;
    RowTensor q;
    const void* summaries = nullptr;  // [batch, blocks_max, sub_blocks, parts, heads_k, head_dim]
    float* scores = nullptr;          // [rows, blocks_max]
    std::int32_t heads_k = 0, group = 0, head_dim = 0;
    std::int32_t block_size = 0, blocks_max = 0;
    std::int32_t sub_block_bits = 0;  // log2 of the sub-blocks of a block
    std::int32_t lanes = 0;           // of a team: a power of two, at least head_dim / 8
    std::int32_t tiles = 0;           // thread blocks that share the rows of a sequence and key head
};

template <typename Summary>
struct Chunk;  // 8 elements
template <typename T>
struct Chunk {
    uint4 bits{};
    __device__ __forceinline__ void load(const T* from) { bits = *reinterpret_cast<const uint4*>(from); }
    __device__ __forceinline__ void values(float (&x)[chunk_elements]) const { unpack<T>(bits, x); }
};
template <>
struct Chunk<float> {
    float4 half[2] = {};
    __device__ __forceinline__ void load(const float* from) {
        half[0] = reinterpret_cast<const float4*>(from)[0];
        half[1] = reinterpret_cast<const float4*>(from)[1];
    }
    __device__ __forceinline__ void values(float (&x)[chunk_elements]) const {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            x[4 * i] = half[i].x;
            x[4 * i + 1] = half[i].y;
            x[4 * i + 2] = half[i].z;
            x[4 * i + 3] = half[i].w;
        }
    }
};

/// This lane's channels of the rows of a thread block, zero where there is none.
template <typename T, int Rows>
struct Queries {
    float x[Rows][chunk_elements];

    __device__ __forceinline__ Queries(const Params& p, int b, int head_k, int first, int count, int lane) {
#pragma unroll
        for (int i = 0; i < Rows; ++i) {
            uint4 bits{};
            if (i < count && lane * chunk_elements < p.head_dim) {
                const int head = head_k * p.group + (first + i) / p.rows.seqlen_q;
                const char* row = p.q.row(head, {b, (first + i) % p.rows.seqlen_q});
                bits = reinterpret_cast<const uint4*>(row)[lane];
            }
            unpack<T>(bits, x[i]);
        }
    }
};

/// phi of the scorers that look at the ends of a range (kernels/scorer.h); a NaN stays.
__device__ __forceinline__ float positive_part(float q) {
    return q < 0.0f ? 0.0f : q;
}
__device__ __forceinline__ float negative_part(float q) {
    return q > 0.0f ? 0.0f : q;
}

/// A NaN is taken and never let go.
__device__ __forceinline__ float larger(float score, float best) {
    return score > best || score != score ? score : best;
}

/// Where the scores of a row of a sequence and key head go.
__device__ __forceinline__ float* scores_of(const Params& p, int b, int head_k, int row) {
    const int head = head_k * p.group + row / p.rows.seqlen_q;
    const std::int64_t token = static_cast<std::int64_t>(b) * p.rows.seqlen_q + row % p.rows.seqlen_q;
    return p.scores + (static_cast<std::int64_t>(head) * p.rows.batch * p.rows.seqlen_q + token) * p.blocks_max;
}

/// Summary: T or float. Ranges: two parts, the larger ends and the smaller ones.
template <typename T, typename Summary, int Rows, bool Ranges>
__global__ void __launch_bounds__(threads) score_kernel(const Params p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int tile = static_cast<int>(blockIdx.x) % p.tiles, pair = static_cast<int>(blockIdx.x) / p.tiles;
    const int head_k = pair % p.heads_k, b = pair / p.heads_k;
    const int teams = threads / p.lanes;
    const int first_block = static_cast<int>(blockIdx.y) * teams * teams_blocks;
    const int candidates = max(p.cache.length(b) - 1, 0) / p.block_size;  // of the last row; no other has more
    if (first_block >= candidates) return;
    const int last_block = min(first_block + teams * teams_blocks, candidates);
    const int lane = static_cast<int>(threadIdx.x) % p.lanes, team = static_cast<int>(threadIdx.x) / p.lanes;
    const int first_row = tile * Rows, count = min(p.group * p.rows.seqlen_q - first_row, Rows);
    const Queries<T, Rows> q(p, b, head_k, first_row, count, lane);

    constexpr int parts = Ranges ? 2 : 1, in_flight = loads_in_flight / parts;
    const std::int64_t row = static_cast<std::int64_t>(p.heads_k) * p.head_dim;
    const Summary* summaries = static_cast<const Summary*>(p.summaries) +
                               (static_cast<std::int64_t>(b) * p.blocks_max << p.sub_block_bits) * parts * row +
                               static_cast<std::int64_t>(head_k) * p.head_dim + lane * chunk_elements;
    float* scores = scores_of(p, b, head_k, first_row + lane);  // of this lane's row, where it has one
    const int mask = (1 << p.sub_block_bits) - 1;
    float best[Rows];
    // Every team of a warp takes as many steps: lanes of one whose blocks have ended only keep the others company.
    for (int step = 0; step < teams_blocks << p.sub_block_bits; step += in_flight) {
        Chunk<Summary> chunk[in_flight][parts];
#pragma unroll
        for (int i = 0; i < in_flight; ++i) {
            const int block = first_block + team + ((step + i) >> p.sub_block_bits) * teams;
            if (block >= last_block || lane * chunk_elements >= p.head_dim) continue;
            const std::int64_t at = (static_cast<std::int64_t>(block) << p.sub_block_bits) + ((step + i) & mask);
#pragma unroll
            for (int part = 0; part < parts; ++part) chunk[i][part].load(summaries + (at * parts + part) * row);
        }
#pragma unroll
        for (int i = 0; i < in_flight; ++i) {
            const int block = first_block + team + ((step + i) >> p.sub_block_bits) * teams;
            float x[parts][chunk_elements];
#pragma unroll
            for (int part = 0; part < parts; ++part) chunk[i][part].values(x[part]);
            float score[Rows];
#pragma unroll
            for (int r = 0; r < Rows; ++r) {
                float sum = 0.0f;
#pragma unroll
                for (int e = 0; e < chunk_elements; ++e) {
                    if constexpr (Ranges) {
                        sum = fmaf(positive_part(q.x[r][e]), x[0][e], sum);
                        sum = fmaf(negative_part(q.x[r][e]), x[parts - 1][e], sum);
                    } else {
                        sum = fmaf(q.x[r][e], x[0][e], sum);
                    }
                }
                score[r] = sum;
            }
            for (int distance = p.lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
                for (int r = 0; r < Rows; ++r) score[r] += __shfl_xor_sync(full_warp, score[r], distance);
            }
            const int sub_block = (step + i) & mask;
#pragma unroll
            for (int r = 0; r < Rows; ++r) best[r] = sub_block == 0 ? score[r] : larger(score[r], best[r]);
            if (sub_block != mask || block >= last_block) continue;
            for (int r = lane; r < count; r += p.lanes) {  // more than once where a row has few lanes
                float value = best[0];
#pragma unroll
                for (int other = 1; other < Rows; ++other) value = r == other ? best[other] : value;
                (r == lane ? scores : scores_of(p, b, head_k, first_row + r))[block] = value;
            }
        }
    }
}

template <typename T, typename Summary, int Rows, bool Ranges>
Status launch(Params p, const Problem& problem, cudaStream_t stream) {
    p.tiles = (p.group * p.rows.seqlen_q + Rows - 1) / Rows;
    const std::int64_t of_thread_block = static_cast<std::int64_t>(threads / p.lanes) * teams_blocks;
    const dim3 grid(static_cast<unsigned>(problem.batch * problem.heads_k * p.tiles),
                    static_cast<unsigned>((problem.longest_blocks() + of_thread_block - 1) / of_thread_block));
    return launch_early("score_kernel", score_kernel<T, Summary, Rows, Ranges>, grid, threads, 0, stream, p);
}

template <typename T, typename Summary, bool Ranges>
Status launch_rows(const Params& p, const Problem& problem, cudaStream_t stream) {
    const int rows = p.group * p.rows.seqlen_q;
    if (rows == 1) return launch<T, Summary, 1, Ranges>(p, problem, stream);
    if (rows <= 4 || Ranges) return launch<T, Summary, most_rows_of_ranges, Ranges>(p, problem, stream);
    return launch < T, Summary, Ranges ? most_rows_of_ranges : most_rows, Ranges > (p, problem, stream);
}

template <typename T>
Status launch_kept(const Params& p, const Problem& problem, cudaStream_t stream) {
    if (find_scorer(problem.scorer.kind)->parts == 2) return launch_rows<T, T, true>(p, problem, stream);
    if (problem.centroids == Centroids::fp32) return launch_rows<T, float, false>(p, problem, stream);
    return launch_rows<T, T, false>(p, problem, stream);
}

}  // namespace

Status launch_decode_scores(const Problem& problem, const Cache& cache, ConstTensor q, const void* centroids,
                            float* scores, cudaStream_t stream) {
    Params p;
    p.cache = make_cache_table(problem, cache);
    p.rows = make_decode_rows(problem);
    p.q = rows_of(q);
    p.summaries = centroids;
    p.scores = scores;
    p.heads_k = static_cast<std::int32_t>(problem.heads_k);
    p.group = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.block_size = static_cast<std::int32_t>(problem.block_size);
    p.blocks_max = static_cast<std::int32_t>(problem.longest_blocks());
    p.sub_block_bits = std::countr_zero(static_cast<std::uint64_t>(problem.scorer.sub_blocks));
    p.lanes = static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint64_t>(problem.head_dim / chunk_elements)));
    if (problem.dtype == DataType::bf16) return launch_kept<__nv_bfloat16>(p, problem, stream);
    return launch_kept<__half>(p, problem, stream);
}

}  // namespace mobalab::kernels::cuda
