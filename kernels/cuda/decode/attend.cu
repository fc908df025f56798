#include "kernels/cuda/decode/attend.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/decode/cache_table.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/ptx/grid.cuh"
#include "kernels/cuda/ptx/warp.cuh"
#include "kernels/cuda/tile/elements.cuh"
#include "kernels/cuda/tile/rows.h"

// One query against keys that no other has to share with it (each query head has blocks of its own): bound by reading
// keys and values, so plain multiplications do. A thread block takes a part of a row's keys. A team of lanes takes a
// key, 8 channels of key and value a lane, four keys at a time, and keeps a softmax of its own; those of the teams,
// then those of the parts are combined in a fixed order. Where keys and values differ in width, a team is as wide as
// the wider ones and some of its lanes have channels of one of them alone.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 128;
constexpr int in_flight = 4;             // keys that a team loads at once, with their values
constexpr std::int64_t least_keys = 64;  // of a part
constexpr std::int64_t most_parts = 64;  // of a row
constexpr int most_slots = 128;          // that a part touches: fewer than 68, see decode_parts()
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/// A softmax in parts: the largest score (in units of log2), the sum of 2^(score - largest); none seen: -inf, 0.
struct Partials {
    float2* softmax = nullptr;  // [rows, parts]
    /// [rows, parts, head_dim_v]: of 2^(score - largest) * value; where nothing was seen: nothing.
    float* sums = nullptr;

    Partials() = default;
    Partials(const Problem& problem, WorkspaceCarver& carver) {
        const std::int64_t count = problem.tokens_q() * problem.heads_q * decode_parts(problem).count;
        softmax = carver.take<float2>(count);
        sums = carver.take<float>(count * problem.value_dim());
    }
};

struct Params {
    CacheTable cache;
    DecodeRows rows;
    RowTensor q, k, v, out;
    Partials partials;
    float* lse = nullptr;
    const std::int32_t* selection = nullptr;  // [rows, slots]
    BlockDivisor per_block;
    std::int32_t block_size = 0, slots = 0, group = 0, head_dim = 0;
    std::int32_t keys = 0, parts = 0;  // DecodeParts
    float scale = 0.0f;                // of log2 e, too
    std::int32_t head_dim_v = 0;
};

/// Any score less this largest one is a number: where all are -inf, they weigh nothing.
__device__ __forceinline__ float reference_of(float largest) {
    return largest == -INFINITY ? 0.0f : largest;
}

/// The block of one slot of a row, -1 where that is no candidate or stands in an earlier slot already. A warp calls it.
__device__ __forceinline__ int block_of_slot(const std::int32_t* selected, int slot, int slots, int own) {
    if (slot == slots) return own;
    const int block = selected[slot];
    bool doubled = false;
    for (int i = static_cast<int>(threadIdx.x) % 32; i < slot; i += 32) doubled |= selected[i] == block;
    const bool counts = !__any_sync(full_warp, doubled) && block >= 0 && block < own;
    return counts ? block : -1;
}

/// What a team has seen so far.
struct TeamSoftmax {
    float largest = -INFINITY, sum = 0.0f;
    float total[chunk_elements] = {};

    /// Values of the same lanes; keys that are not there have a score of -inf and values of zero.
    template <typename T>
    __device__ __forceinline__ void add(const float (&score)[in_flight], const uint4 (&value)[in_flight]) {
        float highest = largest;
#pragma unroll
        for (int i = 0; i < in_flight; ++i) highest = fmaxf(highest, score[i]);
        const float reference = reference_of(highest);
        const float keep = exp2f(largest - reference);
        largest = highest;
        sum *= keep;
#pragma unroll
        for (int e = 0; e < chunk_elements; ++e) total[e] *= keep;
#pragma unroll
        for (int i = 0; i < in_flight; ++i) {
            const float weight = exp2f(score[i] - reference);
            float x[chunk_elements];
            unpack<T>(value[i], x);
            sum += weight;
#pragma unroll
            for (int e = 0; e < chunk_elements; ++e) total[e] = fmaf(weight, x[e], total[e]);
        }
    }
};

template <int Lanes>
struct TeamsShared {
    static constexpr int teams = threads / Lanes;
    int blocks[most_slots];
    float largest[teams], sum[teams];
    float total[teams][Lanes * chunk_elements];
};

/// Of all teams, in their order, to the part's place.
template <int Lanes>
__device__ __forceinline__ void store_part(const Params& p, const TeamsShared<Lanes>& shared, std::int64_t part,
                                           int head_dim_v) {
    constexpr int teams = TeamsShared<Lanes>::teams;
    float highest = -INFINITY;
    for (int i = 0; i < teams; ++i) highest = fmaxf(highest, shared.largest[i]);
    const float reference = reference_of(highest);
    for (int c = static_cast<int>(threadIdx.x); c < head_dim_v; c += threads) {
        float total = 0.0f;
        for (int i = 0; i < teams; ++i) total += exp2f(shared.largest[i] - reference) * shared.total[i][c];
        p.partials.sums[part * head_dim_v + c] = total;
    }
    if (threadIdx.x != 0) return;
    float sum = 0.0f;
    for (int i = 0; i < teams; ++i) sum += exp2f(shared.largest[i] - reference) * shared.sum[i];
    p.partials.softmax[part] = make_float2(highest, sum);
}

/// Lanes: of a team, a power of two that is at least head_dim / 8 and head_dim_v / 8. OneWidth: these are the same.
template <typename T, int Lanes, bool OneWidth>
__global__ void __launch_bounds__(threads) part_kernel(const Params p) {
    __shared__ TeamsShared<Lanes> shared;
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    constexpr int teams = TeamsShared<Lanes>::teams;
    const int number = static_cast<int>(blockIdx.x);
    const DecodeRow row = p.rows.at(number, p.cache);
    if (row.position < 0) return;  // the combination knows
    const int lane = static_cast<int>(threadIdx.x) % Lanes, team = static_cast<int>(threadIdx.x) / Lanes;
    const bool of_key = lane * chunk_elements < p.head_dim;
    const bool of_value = lane * chunk_elements < p.head_dim_v;  // OneWidth: not looked at
    const int begin = static_cast<int>(blockIdx.y) * p.keys;
    const int end = min(begin + p.keys, (p.slots + 1) * p.block_size);
    const int first_slot = p.per_block.divide(begin), slot_count = p.per_block.divide(end - 1) - first_slot + 1;
    const int own = p.per_block.divide(row.position);
    const std::int32_t* selected = p.selection + static_cast<std::int64_t>(number) * p.slots;
    bool any = false;
    for (int i = static_cast<int>(threadIdx.x) / 32; i < slot_count; i += threads / 32) {
        const int block = block_of_slot(selected, first_slot + i, p.slots, own);
        shared.blocks[i] = block;
        any |= block >= 0;
    }
    const std::int64_t part = static_cast<std::int64_t>(number) * p.parts + blockIdx.y;
    if (__syncthreads_or(any) == 0) {
        if (threadIdx.x == 0) p.partials.softmax[part] = make_float2(-INFINITY, 0.0f);
        return;
    }

    const int head_k = row.head / p.group;
    float q[chunk_elements];
    uint4 bits{};
    if (of_key) bits = reinterpret_cast<const uint4*>(p.q.row(row.head, {row.b, row.row}))[lane];
    unpack<T>(bits, q);
    TeamSoftmax seen;
    for (int base = begin; base < end; base += in_flight * teams) {
        uint4 key[in_flight] = {}, value[in_flight] = {};
        bool there[in_flight];
#pragma unroll
        for (int i = 0; i < in_flight; ++i) {
            const int at = base + i * teams + team;
            const int slot = p.per_block.divide(at);
            const int block = at < end ? shared.blocks[slot - first_slot] : -1;
            const int position = block * p.block_size + at - slot * p.block_size;
            there[i] = block >= 0 && position <= row.position;
            if (!there[i] || !(of_key || (!OneWidth && of_value))) continue;
            const Place place = p.cache.place(row.b, position);
            if (OneWidth || of_key) key[i] = reinterpret_cast<const uint4*>(p.k.row(head_k, place))[lane];
            if (OneWidth || of_value) value[i] = reinterpret_cast<const uint4*>(p.v.row(head_k, place))[lane];
        }
        float score[in_flight];
#pragma unroll
        for (int i = 0; i < in_flight; ++i) {
            float x[chunk_elements];
            unpack<T>(key[i], x);
            score[i] = 0.0f;
#pragma unroll
            for (int e = 0; e < chunk_elements; ++e) score[i] = fmaf(q[e], x[e], score[i]);
        }
#pragma unroll
        for (int distance = Lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
            for (int i = 0; i < in_flight; ++i) score[i] += __shfl_xor_sync(full_warp, score[i], distance);
        }
#pragma unroll
        for (int i = 0; i < in_flight; ++i) score[i] = there[i] ? score[i] * p.scale : -INFINITY;
        seen.add<T>(score, value);
    }
    if (lane == 0) {
        shared.largest[team] = seen.largest;
        shared.sum[team] = seen.sum;
    }
#pragma unroll
    for (int e = 0; e < chunk_elements; ++e) shared.total[team][lane * chunk_elements + e] = seen.total[e];
    __syncthreads();
    store_part<Lanes>(p, shared, part, OneWidth ? p.head_dim : p.head_dim_v);
}

constexpr int combine_threads = 64;

/// A thread block a row, two channels a thread.
template <typename T>
__global__ void __launch_bounds__(combine_threads) combine_parts_kernel(const Params p) {
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int number = static_cast<int>(blockIdx.x);
    const DecodeRow row = p.rows.at(number, p.cache);
    const bool sees_keys = row.position >= 0;
    const std::int64_t first = static_cast<std::int64_t>(number) * p.parts;
    const float2* softmax = p.partials.softmax + first;
    const int parts = sees_keys ? p.parts : 0;
    float highest = -INFINITY;
    for (int i = 0; i < parts; ++i) highest = fmaxf(highest, softmax[i].x);
    const float reference = reference_of(highest);
    float sum = 0.0f;
    for (int i = 0; i < parts; ++i) sum += exp2f(softmax[i].x - reference) * softmax[i].y;
    char* out = p.out.row(row.head, {row.b, row.row});
    for (int c = 2 * static_cast<int>(threadIdx.x); c < p.head_dim_v; c += 2 * combine_threads) {
        float2 total = make_float2(0.0f, 0.0f);
        for (int i = 0; i < parts; ++i) {
            if (softmax[i].x == -INFINITY) continue;  // it has no sums, or zeros
            const float weight = exp2f(softmax[i].x - reference);
            const float2 part = *reinterpret_cast<const float2*>(p.partials.sums + (first + i) * p.head_dim_v + c);
            total.x = fmaf(weight, part.x, total.x);
            total.y = fmaf(weight, part.y, total.y);
        }
        using P = typename Pair<T>::Type;
        const float scale = sees_keys ? 1.0f / sum : 0.0f;
        reinterpret_cast<P*>(out)[c / 2] = P{from_float<T>(total.x * scale), from_float<T>(total.y * scale)};
    }
    // Of keys whose scores all are -inf the sum is 0: NaN, as softmax has it.
    if (threadIdx.x == 0) p.lse[number] = !sees_keys ? INFINITY : sum == 0.0f ? NAN : (highest + log2f(sum)) * ln_2;
}

template <typename T, int Lanes>
Status launch_parts(const Params& p, cudaStream_t stream) {
    const dim3 grid(static_cast<unsigned>(p.rows.count()), static_cast<unsigned>(p.parts));
    const auto kernel = p.head_dim == p.head_dim_v ? part_kernel<T, Lanes, true> : part_kernel<T, Lanes, false>;
    return launch_early("part_kernel", kernel, grid, threads, 0, stream, p);
}

template <typename T>
Status launch(const Params& p, cudaStream_t stream) {
    const std::int32_t widest = std::max(p.head_dim, p.head_dim_v);
    const Status s = widest <= 32    ? launch_parts<T, 4>(p, stream)
                     : widest <= 64  ? launch_parts<T, 8>(p, stream)
                     : widest <= 128 ? launch_parts<T, 16>(p, stream)
                                     : launch_parts<T, 32>(p, stream);
    if (!s.ok()) return s;
    return launch_early("combine_parts_kernel", combine_parts_kernel<T>, dim3(static_cast<unsigned>(p.rows.count())),
                        combine_threads, 0, stream, p);
}

}  // namespace

DecodeParts decode_parts(const Problem& problem) {
    constexpr std::int64_t step = 32;  // keys that all teams of head_dim 128 take at once
    const std::int64_t all = (problem.routed() + 1) * problem.block_size;
    const std::int64_t wanted = (all + most_parts - 1) / most_parts;
    const std::int64_t keys = std::max(least_keys, (wanted + step - 1) / step * step);
    return {keys, (all + keys - 1) / keys};
}

std::size_t decode_attention_workspace(const Problem& problem) {
    WorkspaceCarver carver(nullptr);
    const Partials partials(problem, carver);
    return carver.used();
}

Status launch_decode_attention(const Problem& problem, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                               const std::int32_t* selection, Tensor out, float* lse, void* workspace,
                               cudaStream_t stream) {
    WorkspaceCarver carver(workspace);
    Params p;
    p.cache = make_cache_table(problem, cache);
    p.rows = make_decode_rows(problem);
    p.q = rows_of(q);
    p.k = rows_of(k);
    p.v = rows_of(v);
    p.out = rows_of(out);
    p.partials = Partials(problem, carver);
    p.lse = lse;
    p.selection = selection;
    p.per_block = BlockDivisor(problem.block_size);
    p.block_size = static_cast<std::int32_t>(problem.block_size);
    p.slots = static_cast<std::int32_t>(problem.routed());
    p.group = static_cast<std::int32_t>(problem.heads_q / problem.heads_k);
    p.head_dim = static_cast<std::int32_t>(problem.head_dim);
    p.head_dim_v = static_cast<std::int32_t>(problem.value_dim());
    const DecodeParts parts = decode_parts(problem);
    p.keys = static_cast<std::int32_t>(parts.keys);
    p.parts = static_cast<std::int32_t>(parts.count);
    p.scale = static_cast<float>(problem.softmax_scale()) * log2_e;
    if (problem.dtype == DataType::bf16) return launch<__nv_bfloat16>(p, stream);
    return launch<__half>(p, stream);
}

}  // namespace mobalab::kernels::cuda
