#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward_shared.cuh"
#include "kernels/cuda/forward/partial_store.cuh"
#include "kernels/cuda/ptx/copy.cuh"
#include "kernels/cuda/ptx/mbarrier.cuh"
#include "kernels/cuda/tile/quad_transpose.cuh"

// The keys of a run: in come keys and values, out go dK and dV, as rows or as fp32 sums in slots.
namespace mobalab::kernels::cuda {
namespace {

using namespace ptx;

template <int P, int K, Mode M>
__device__ __forceinline__ void load_keys_and_values(Shared<P, K, M>& shared, const KeyRun& run,
                                                     const CUtensorMap& k_map, const CUtensorMap& v_map) {
    using S = Shape<P, K, M>;
    mbarrier_arrive_expect(&shared.kv_loaded, 2 * sizeof(shared.k));
#pragma unroll
    for (int p = 0; p < S::panels; ++p) {
        tensor_load_4d(shared.k + p * S::key_panel_bytes, &k_map, p * panel_columns, run.key_head, run.key.token,
                       run.key.batch, &shared.kv_loaded);
        tensor_load_4d(shared.v + p * S::key_panel_bytes, &v_map, p * panel_columns, run.key_head, run.key.token,
                       run.key.batch, &shared.kv_loaded);
    }
}

/// Keys past the end of the sequence belong to the next one: 0 * inf must not reach this one.
template <int P, int K, Mode M>
__device__ __forceinline__ void clear_keys_from(Shared<P, K, M>& shared, int keys, int thread) {
    using S = Shape<P, K, M>;
    const int pieces = (S::keys - keys) * 8;
    for (int p = 0; p < S::panels; ++p) {
        uint4* const k = reinterpret_cast<uint4*>(shared.k + p * S::key_panel_bytes + keys * 128);
        uint4* const v = reinterpret_cast<uint4*>(shared.v + p * S::key_panel_bytes + keys * 128);
        for (int i = thread; i < pieces; i += S::consumer_threads) {
            k[i] = make_uint4(0, 0, 0, 0);
            v[i] = make_uint4(0, 0, 0, 0);
        }
    }
}

/// Where a thread's part of a run's dK and dV lies: accumulator rows lane / 4 + {0, 8} of its warp, columns of its
/// group. `thread`: of the team.
template <typename S>
struct KeyGradientPlace {
    int first_key, first_column;

    __device__ __forceinline__ KeyGradientPlace(int thread) {
        const int group = thread / 128, warp = thread / 32 % 4, lane = thread % 32;
        first_key = (S::split_keys ? 64 * group : 0) + 16 * warp + lane / 4;
        first_column = S::split_columns ? group * S::key_gradient_columns : 0;
    }
};

template <typename T, typename S>
__device__ __forceinline__ void store_rows(const RowTensor& tensor, const KeyRun& run, int head_dim, float scale,
                                           const float (&sum)[S::key_gradient_columns / 2], int thread) {
    const KeyGradientPlace<S> place(thread);
    const int lane = thread % 32;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int key = place.first_key + 8 * h;
        char* const row = tensor.row(run.key_head, run.key.from(key)) + (lane % 4) * 16;
#pragma unroll
        for (int m = 0; m < S::key_gradient_columns / 32; ++m) {
            std::uint32_t word[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * (4 * m + i) + 2 * h;
                word[i] = pack<T>(sum[at] * scale, sum[at + 1] * scale);
            }
            const uint4 piece = quad_transpose(make_uint4(word[0], word[1], word[2], word[3]), lane);
            const int column = place.first_column + 32 * m;
            const bool exists = column + lane % 4 * 8 < head_dim;
            if (key < run.keys && exists) *reinterpret_cast<uint4*>(row + column * 2) = piece;
        }
    }
}

/// The same into fp32 rows that hold what passes before this one have found.
template <typename S>
__device__ __forceinline__ void add_rows(const RowTensor& sums, const KeyRun& run, int head_dim, float scale,
                                         const float (&sum)[S::key_gradient_columns / 2], int thread) {
    const KeyGradientPlace<S> place(thread);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int key = place.first_key + 8 * h;
        if (key >= run.keys) continue;
        float* const row = reinterpret_cast<float*>(sums.row(run.key_head, run.key.from(key)));
#pragma unroll
        for (int j = 0; j < S::key_gradient_columns / 8; ++j) {
            const int column = place.first_column + 8 * j;
            if (column >= head_dim) continue;
            float2* const pair = reinterpret_cast<float2*>(row + column + thread % 4 * 2);
            const float2 before = *pair;
            const int at = 4 * j + 2 * h;
            *pair = make_float2(before.x + sum[at] * scale, before.y + sum[at + 1] * scale);
        }
    }
}

/// Scratch of one run: [matrix][float4][thread].
template <typename S>
__device__ __forceinline__ float4* slot_of(const BlockBackwardArgs& args, int slot, int matrix, int thread) {
    constexpr int vectors = S::key_gradient_columns / 8;
    return reinterpret_cast<float4*>(args.slots + slot * slot_elements(S::keys, S::width)) +
           matrix * vectors * S::consumer_threads + thread;
}

template <typename S>
__device__ __forceinline__ void store_slot(float4* slot, const float (&sum)[S::key_gradient_columns / 2]) {
#pragma unroll
    for (int i = 0; i < S::key_gradient_columns / 8; ++i) {
        slot[i * S::consumer_threads] = make_float4(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]);
    }
}

}  // namespace
}  // namespace mobalab::kernels::cuda
