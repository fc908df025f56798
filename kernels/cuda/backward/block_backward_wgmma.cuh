#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/cuda/backward/block_backward_consumer.cuh"
#include "kernels/cuda/backward/block_backward_producer.cuh"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/ptx/grid.cuh"

// Persistent, warp-specialised block_backward for Hopper.
//
// Four producer warps draw units and gather the rows of q and d_out of 64 queries (cp.async into the 128-byte swizzle,
// several stages). Two consumer warpgroups compute S^T = K Q^T and dP^T = V dO^T with keys as rows, so that P^T is a
// register operand of dV += P^T dO, and dS^T one of dK += dS^T Q. dS goes through shared memory once, transposed, for
// dQ = dS K. Up to head_dim 128 the warpgroups split the 128 keys of a run. They take turns with dQ: that of a tile is
// computed by one of them, from the dS of both, when it is done with its own part of the next tile. So neither waits
// for the other one, they fall out of step, and what one does between its products passes behind those of the other.
// Above head_dim 128 they split the columns of dK and dV of a run of 64 keys, each computes all of S and half of the
// columns of dQ, and dK comes from shared memory too. Where blocks have no more than 64 keys, so do lists and runs; up
// to head_dim 128 each warpgroup then has units, shared memory and two of the producer warps of its own: two teams that
// meet nowhere.
//
// Synchronisation
//   announced[n % 8]   unit n is in units[n % 8]                       producer warp 0 -> everyone
//   full[t % stages]   tile t is gathered and described                every producer thread, its copies -> consumers
//   empty[t % stages]  nobody reads it any more                        every consumer thread -> producers
//   ready[t % stages]  dS of tile t is in d_scores[t % stages]         every consumer thread -> who computes dQ
//   drained[...]       dQ of tile t is computed                        who computed it -> every consumer thread
//   kv_loaded          keys and values of the unit have come           copy engine -> consumers
// each of them for one team; ready and drained only where warpgroups split keys. No producer waits for its copies: they
// arrive at full[] themselves, and the consumers fence what cp.async wrote from what products read. A tile is given
// back before its dQ, which reads keys, dS and the tile's description alone; descriptions lie in a ring of twice as
// many, so that of tile t is whole until the stage of tile t + 2 is given back. Warpgroups that split columns give a
// tile back while the next one is in work: its last product, dK, goes on under the next one's first. A unit's slot is
// free when unit n + 8 is announced: by then the producers have gathered a tile of each of the units n + 1 to n + 7 (a
// unit has at least one), and the stages for these came from consumers that were done with unit n. Keys and values are
// loaded by a consumer thread once the whole team is done with those of the last unit.
namespace mobalab::kernels::cuda {
namespace {

__device__ __forceinline__ void clear(void* shared, unsigned bytes) {
    uint4* const pieces = static_cast<uint4*>(shared);
    for (unsigned i = threadIdx.x; i < bytes / 16; i += threads_per_block) pieces[i] = make_uint4(0, 0, 0, 0);
}

/// The same for all lanes of a warp, and known to be: addresses in shared memory are then in uniform registers.
template <typename S>
__device__ __forceinline__ int team_of(int team) {
    return S::teams == 1 ? 0 : __shfl_sync(0xffffffffu, team, 0);
}

template <typename T, int P, int K, Mode M>
__global__ void __launch_bounds__(threads_per_block, 1)
    block_backward_kernel(const __grid_constant__ BlockBackwardArgs args, const __grid_constant__ CUtensorMap k_map,
                          const __grid_constant__ CUtensorMap v_map) {
    using S = Shape<P, K, M>;
    using Layout = Shared<P, K, M>;
    extern __shared__ std::byte dynamic[];
    const std::uint32_t misaligned = shared_address(dynamic) % 1024;
    Layout* const teams = reinterpret_cast<Layout*>(dynamic + (1024 - misaligned) % 1024);
    const int thread = static_cast<int>(threadIdx.x);

    if (thread < S::teams) {
        Layout& shared = teams[thread];
        for (std::uint64_t& barrier : shared.announced) mbarrier_init(&barrier, 1);
        for (std::uint64_t& barrier : shared.full) mbarrier_init(&barrier, S::tile_arrivals);
        for (std::uint64_t& barrier : shared.empty) mbarrier_init(&barrier, S::consumer_threads);
        for (std::uint64_t& barrier : shared.ready) mbarrier_init(&barrier, S::consumer_threads);
        for (std::uint64_t& barrier : shared.drained) mbarrier_init(&barrier, 128);
        mbarrier_init(&shared.kv_loaded, 1);
        fence_mbarrier_init();
    }
    if (min(args.head_dim, args.value_dim) < P) {  // columns that are never gathered
        for (int team = 0; team < S::teams; ++team) {
            clear(teams[team].q, sizeof(Layout::q));
            clear(teams[team].d_out, sizeof(Layout::d_out));
        }
    }
    fence_async_proxy();
    wait_for_previous_kernel();
    let_next_kernel_launch();
    __syncthreads();
    if (thread >= all_consumer_threads) {
        set_registers_down<S::producer_registers>();
        const int warp = (thread - all_consumer_threads) / 32;
        Layout& shared = teams[team_of<S>(warp / S::producer_warps)];
        Producer<P, K, M>(args, shared, S::teams == 1 ? warp : warp % S::producer_warps, thread % 32).run();
    } else {
        set_registers_up<S::consumer_registers>();
        Consumer<T, P, K, M>(args, teams[team_of<S>(S::team())]).run(k_map, v_map);
    }
}

template <typename T, int P, int K, Mode M>
Status launch(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map, const CUtensorMap& v_map,
              cudaStream_t stream) {
    using S = Shape<P, K, M>;
    constexpr std::size_t bytes = S::teams * sizeof(Shared<P, K, M>) + 1024;  // dynamic memory may begin anywhere
    static_assert(bytes <= 227 * 1024, "more than a thread block can have");
    // What warpgroups take has to be in the block's share, which it gets by launch bounds: 168 registers a thread.
    static_assert(consumer_groups * S::consumer_registers + S::producer_registers <=
                  threads_per_block / 128 * (65536 / threads_per_block / 8 * 8));
    return launch_persistent("block_backward", block_backward_kernel<T, P, K, M>, multiprocessors, threads_per_block,
                             bytes, stream, args, k_map, v_map);
}

/// Whether the run is full of whole blocks, or part of one, and those of at most 64 keys begin at multiples of 16.
inline bool is_even(const BlockBackwardArgs& args, int keys) {
    if (!args.causal) return false;
    if (args.block_size <= narrow_list) return args.block_size >= 16 && args.keys_per_list == narrow_list;
    return args.block_size >= widest_shared_list && args.run_keys == keys;
}

template <typename T, int P, int K>
Status launch_mode(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                   const CUtensorMap& v_map, cudaStream_t stream) {
    const bool any = !is_even(args, K);
    if constexpr (K == 128) {
        if (any && args.run > 0) return launch<T, P, K, Mode::last>(multiprocessors, args, k_map, v_map, stream);
        if (args.run > 0) return launch<T, P, K, Mode::more>(multiprocessors, args, k_map, v_map, stream);
    }
    if (any) return launch<T, P, K, Mode::any>(multiprocessors, args, k_map, v_map, stream);
    if constexpr (K == narrow_list) {
        if (args.block_size < args.keys_per_list) {
            return launch<T, P, K, Mode::parts>(multiprocessors, args, k_map, v_map, stream);
        }
    }
    return launch<T, P, K, Mode::whole>(multiprocessors, args, k_map, v_map, stream);
}

/// Lists of at most 64 keys are those of blocks of at most 64.
template <typename T, int P>
Status launch_keys(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                   const CUtensorMap& v_map, cudaStream_t stream) {
    if constexpr (keys_per_backward_run(P) > narrow_list) {
        if (args.block_size > narrow_list)
            return launch_mode<T, P, keys_per_backward_run(P)>(multiprocessors, args, k_map, v_map, stream);
    }
    return launch_mode<T, P, narrow_list>(multiprocessors, args, k_map, v_map, stream);
}

}  // namespace

template <typename T>
Status launch_block_backward(int multiprocessors, const BlockBackwardArgs& args, const CUtensorMap& k_map,
                             const CUtensorMap& v_map, cudaStream_t stream) {
    switch (padded_head_dim(std::max(args.head_dim, args.value_dim))) {
        case 64:
            return launch_keys<T, 64>(multiprocessors, args, k_map, v_map, stream);
        case 128:
            return launch_keys<T, 128>(multiprocessors, args, k_map, v_map, stream);
        default:
            return launch_keys<T, 256>(multiprocessors, args, k_map, v_map, stream);
    }
}

}  // namespace mobalab::kernels::cuda
