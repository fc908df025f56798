#include <algorithm>

#include "kernels/cuda/block_backward.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx/grid.cuh"

// One thread block sorts the runs of a chunk by size (counting sort over classes of sizes), so that the longest start
// first and the short ones fill the end. Which thread block works on what, and in which order, changes no bit of the
// result; where a run is cut does, and depends on its number of tiles alone.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = max_passes * 128;
constexpr int classes = 128;                 // of one pass
constexpr std::int64_t units_planned = 112;  // of a pass, if all were of the largest planned size
constexpr std::int64_t least_tiles_per_unit = 32;

struct Params {
    const ListItem* items;
    const std::int32_t* item_count;
    std::int32_t group;  // query heads per key head
    std::int32_t head_begin;
    std::int32_t tiles_per_item;
    UnitPlan plan;
    UnitView out;
};

__device__ __forceinline__ int tiles_of(int rows) {
    return (rows + list_tile_rows - 1) / list_tile_rows;
}
/// Of the whole list; `item` is its first one.
__device__ __forceinline__ int tiles_of_list(const ListItem& item) {
    return tiles_of(item.own_end - item.own_begin) + tiles_of(item.list_rows);
}
__device__ __forceinline__ bool same_run(const Params& p, const ListItem& a, const ListItem& b) {
    return a.sequence == b.sequence && a.list == b.list && a.head / p.group == b.head / p.group;
}

/// All items of a (sequence, key head, list): those of the lists of its query heads, all full but the last of each.
struct Run {
    int first, items, tiles, pass;

    __device__ Run(const Params& p, int first_item, int count) : first(first_item), items(0), tiles(0) {
        const ListItem head = p.items[first_item];
        pass = (head.head - p.head_begin) / p.plan.heads_per_pass;
        for (ListItem item = head; same_run(p, head, item); item = p.items[first + items]) {
            tiles += tiles_of_list(item);
            items += (tiles_of_list(item) + p.tiles_per_item - 1) / p.tiles_per_item;
            if (first + items >= count) break;
        }
    }
    /// In units of `most` tiles; 1: it stays whole.
    __device__ int units(const Params& p, int most) const {
        return 2 * tiles <= 3 * most ? 1 : (items + items_of_unit(p, most) - 1) / items_of_unit(p, most);
    }
    static __device__ int items_of_unit(const Params& p, int most) { return max(most / p.tiles_per_item, 1); }
};

/// Passes in order, and in a pass the longest units first.
__device__ __forceinline__ int class_of(const Params& p, int pass, int tiles) {
    return pass * classes + max(0, classes - 1 - tiles * (classes / 2) / p.plan.tiles_per_unit);
}

/// Calls visit(run) for every run whose first item is this thread's.
template <typename Visit>
__device__ __forceinline__ void for_each_run(const Params& p, const Visit& visit) {
    const int count = *p.item_count;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += threads) {
        if (i == 0 || !same_run(p, p.items[i - 1], p.items[i])) visit(Run(p, i, count));
    }
}

__global__ void __launch_bounds__(threads, 1) units_kernel(const Params p) {
    __shared__ int places[max_passes * classes];
    __shared__ int wanted[max_passes], slots[max_passes], splits[max_passes];
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int t = static_cast<int>(threadIdx.x);
    const int all_classes = p.plan.passes * classes;
    const int whole = p.plan.tiles_per_unit, half = max(whole / 2, 1);
    if (t < all_classes) places[t] = 0;
    if (t < max_passes) slots[t] = splits[t] = 0;
    __syncthreads();
    // Units of half the size balance better: where their slots suffice.
    for_each_run(p, [&](const Run& run) {
        if (const int units = run.units(p, half); units > 1) atomicAdd(slots + run.pass, units);
    });
    __syncthreads();
    const auto most_tiles = [&](int pass) { return wanted[pass] <= p.plan.slots_max ? half : whole; };
    if (t < max_passes) {
        wanted[t] = slots[t];
        slots[t] = 0;
    }
    __syncthreads();
    for_each_run(p, [&](const Run& run) {
        const int units = run.units(p, most_tiles(run.pass));
        atomicAdd(places + class_of(p, run.pass, run.tiles / units), units);
    });
    __syncthreads();
    if (t < 32) {  // exclusive sums over the classes
        int before = 0;
        for (int c0 = 0; c0 < all_classes; c0 += 32) {
            const int own = places[c0 + t];
            int sum = own;
            for (int step = 1; step < 32; step *= 2) {
                const int other = __shfl_up_sync(0xffffffffu, sum, step);
                if (t >= step) sum += other;
            }
            places[c0 + t] = before + sum - own;
            before += __shfl_sync(0xffffffffu, sum, 31);
            __syncwarp();
            if (t == 0 && c0 % classes == 0) p.out.counts[c0 / classes * 4 + 3] = places[c0];
        }
        __syncwarp();
        if (t < p.plan.passes) {
            const int end = t + 1 < p.plan.passes ? places[(t + 1) * classes] : before;
            p.out.counts[4 * t] = end - places[t * classes];
        }
    }
    __syncthreads();
    for_each_run(p, [&](const Run& run) {
        const int most = most_tiles(run.pass), units = run.units(p, most);
        const int items = units == 1 ? run.items : Run::items_of_unit(p, most);
        int slot = -1;
        if (units > 1) {
            slot = atomicAdd(slots + run.pass, units);
            p.out.pass(p.plan, run.pass).splits[atomicAdd(splits + run.pass, 1)] = {run.first, slot, units, 0};
        }
        int place = atomicAdd(places + class_of(p, run.pass, run.tiles / units), units);
        for (int u = 0; u < units; ++u) {
            BackwardUnit unit;
            unit.first_item = run.first + u * items;
            unit.item_count = min(items, run.items - u * items);
            unit.slot = units == 1 ? -1 : slot + u;
            p.out.units[place + u] = unit;
        }
    });
    __syncthreads();
    if (t < p.plan.passes) {
        p.out.counts[4 * t + 1] = splits[t];
        p.out.counts[4 * t + 2] = 0;
    }
}

}  // namespace

UnitPlan make_unit_plan(const ListPlan& lists, std::int32_t heads_per_pass) {
    const std::int64_t heads = heads_per_pass;
    const std::int64_t queries = lists.tokens_per_chunk * heads, runs = lists.lists_per_head * heads;
    const std::int64_t tiles =
        lists.rows_per_head / list_tile_rows * heads + queries / list_tile_rows + runs;  // at most
    const std::int64_t per_unit = std::max(least_tiles_per_unit, tiles / units_planned);
    // A run is split when it has more than 1.5 per_unit tiles, into units of items_per_unit items. All items are full
    // but the last one of every query head; the last unit need not be full either.
    const std::int64_t items_per_unit = std::max<std::int64_t>(per_unit / lists.tiles_per_item, 1);
    const std::int64_t most_split_runs = 2 * tiles / (3 * per_unit) + 1, group = lists.heads_q / lists.heads_k;
    UnitPlan plan;
    plan.heads_per_pass = heads_per_pass;
    plan.passes = (lists.heads_per_chunk + heads_per_pass - 1) / heads_per_pass;
    plan.tiles_per_unit = static_cast<std::int32_t>(per_unit);
    plan.slots_max = static_cast<std::int32_t>(tiles / (items_per_unit * lists.tiles_per_item) +
                                               ((group + items_per_unit - 2) / items_per_unit + 1) * most_split_runs);
    plan.units_max = static_cast<std::int32_t>(plan.passes * (plan.slots_max + runs));
    return plan;
}

Status launch_units(const ListPlan& plan, const UnitPlan& unit_plan, const ListView& lists, const UnitView& units,
                    cudaStream_t stream) {
    Params p{};
    p.items = lists.items;
    p.item_count = lists.item_count;
    p.group = plan.heads_q / plan.heads_k;
    p.head_begin = lists.chunk.head_begin;
    p.tiles_per_item = plan.tiles_per_item;
    p.plan = unit_plan;
    p.out = units;
    return launch_early("units_kernel", units_kernel, dim3(1), threads, 0, stream, p);
}

}  // namespace mobalab::kernels::cuda
