#include <algorithm>

#include "kernels/cuda/backward/block_backward.h"
#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/ptx/grid.cuh"

// One thread block a pass sorts its runs by size (counting sort over classes of sizes), so that the longest start first
// and the short ones fill the end. Which thread block works on what, and in which order, changes no bit of the result;
// where a run is cut does, and depends on its number of tiles alone.
namespace mobalab::kernels::cuda {
namespace {

constexpr int threads = 1024;
constexpr int classes = 128;
constexpr int small_classes = 16, most_ordered_windows = 4;
constexpr std::int64_t units_planned = 112;  // of a pass, if all were of the largest planned size and one a thread
                                             // block were in work at a time
constexpr std::int64_t least_tiles_per_unit = 32;

struct Params {
    const ListItem* items;
    const std::int32_t* window_items;
    std::int32_t windows;
    std::int32_t group;  // query heads per key head
    std::int32_t tiles_per_item;
    UnitPlan plan;
    UnitView out;
};

__device__ __forceinline__ bool same_run(const Params& p, const ListItem& a, const ListItem& b) {
    return a.sequence == b.sequence && a.list == b.list && a.head / p.group == b.head / p.group;
}

/// All items of a (sequence, key head, list): those of the lists of its query heads, all full but the last of each.
struct Run {
    int first, items, tiles;

    __device__ Run(const Params& p, int first_item, int end) : first(first_item), items(0), tiles(0) {
        const ListItem head = p.items[first_item];
        for (ListItem item = head; same_run(p, head, item); item = p.items[first + items]) {
            tiles += item.list_tiles;
            items += (item.list_tiles + p.tiles_per_item - 1) / p.tiles_per_item;
            if (first + items >= end) break;
        }
    }
    /// In units of `most` tiles; 1: it stays whole.
    __device__ int units(const Params& p, int most) const {
        return 2 * tiles <= 3 * most ? 1 : (items + items_of_unit(p, most) - 1) / items_of_unit(p, most);
    }
    static __device__ int items_of_unit(const Params& p, int most) { return max(most / p.tiles_per_item, 1); }
};

/// Whether small units come window by window. It pays for lists of 64 keys alone (NOTES_cuda_backward.md).
__device__ __forceinline__ bool orders_windows(const UnitPlan& plan) {
    return plan.runs * plan.run_keys == 64 && plan.windows_per_pass <= most_ordered_windows;
}

/// Of the pass, in which the run is.
__device__ __forceinline__ int window_of(const Params& p, const Run& run) {
    int window = 0;
    const int first = static_cast<int>(blockIdx.x) * p.plan.windows_per_pass;
    const int count = min(p.plan.windows_per_pass, p.windows - first);
    while (window + 1 < count && p.window_items[first + window + 1] <= run.first) ++window;
    return window;
}

/// The longest units first. Small ones, which most queries are in, by windows before that: the queries of one window
/// may fit L2 where those of all do not.
__device__ __forceinline__ int class_of(const Params& p, const Run& run, int units) {
    const int size = max(0, classes - 1 - run.tiles / units * (classes / 2) / p.plan.tiles_per_unit);
    const int small = size - (classes - small_classes);
    if (small < 0 || !orders_windows(p.plan)) return size;
    const int of_window = small_classes / p.plan.windows_per_pass;
    return classes - small_classes + window_of(p, run) * of_window + small * of_window / small_classes;
}

/// Calls visit(run) for every run of this thread block's pass whose first item is this thread's.
template <typename Visit>
__device__ __forceinline__ void for_each_run(const Params& p, const Visit& visit) {
    const int window = static_cast<int>(blockIdx.x) * p.plan.windows_per_pass;
    const int begin = p.window_items[window];
    const int end = p.window_items[min(window + p.plan.windows_per_pass, p.windows)];
    for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += threads) {
        if (i == begin || !same_run(p, p.items[i - 1], p.items[i])) visit(Run(p, i, end));
    }
}

/// Numbers of units become where they begin; by one warp. Returns their sum.
__device__ __forceinline__ int exclusive_sums(int (&places)[classes]) {
    const int lane = static_cast<int>(threadIdx.x);
    int before = 0;
    for (int c0 = 0; c0 < classes; c0 += 32) {
        const int own = places[c0 + lane];
        int sum = own;
        for (int step = 1; step < 32; step *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, step);
            if (lane >= step) sum += other;
        }
        places[c0 + lane] = before + sum - own;
        before += __shfl_sync(0xffffffffu, sum, 31);
    }
    return before;
}

__global__ void __launch_bounds__(threads, 1) units_kernel(const Params p) {
    __shared__ int places[classes];
    __shared__ int wanted, slots, splits;
    ptx::wait_for_previous_kernel();
    ptx::let_next_kernel_launch();
    const int t = static_cast<int>(threadIdx.x);
    const UnitView out = p.out.pass(p.plan, static_cast<int>(blockIdx.x));
    const int whole = p.plan.tiles_per_unit, half = max(whole / 2, 1);
    if (t < classes) places[t] = 0;
    if (t == 0) wanted = slots = splits = 0;
    __syncthreads();
    // Units of half the size balance better: where their slots suffice.
    for_each_run(p, [&](const Run& run) {
        if (const int units = run.units(p, half); units > 1) atomicAdd(&wanted, units);
    });
    __syncthreads();
    const int most = wanted <= p.plan.slots_max && !p.plan.adds_to_keys ? half : whole;
    for_each_run(p, [&](const Run& run) {
        const int units = run.units(p, most);
        atomicAdd(places + class_of(p, run, units), units);
    });
    __syncthreads();
    if (t < 32) {
        const int all = exclusive_sums(places);
        if (t == 0) out.counts[0] = all;
    }
    if (t < p.plan.runs) out.counts[1 + t] = 0;
    __syncthreads();
    for_each_run(p, [&](const Run& run) {
        const int units = run.units(p, most);
        const int items = units == 1 ? run.items : Run::items_of_unit(p, most);
        int slot = -1, split = -1;
        if (units > 1 || p.plan.adds_to_keys) {
            slot = atomicAdd(&slots, units);
            split = atomicAdd(&splits, 1);
            out.splits[split] = {slot, units, 0, 0};
        }
        const int place = atomicAdd(places + class_of(p, run, units), units);
        for (int u = 0; u < units; ++u) {
            BackwardUnit unit;
            unit.first_item = run.first + u * items;
            unit.item_count = min(items, run.items - u * items);
            unit.slot = slot < 0 ? -1 : slot + u;
            unit.split = split;
            out.units[place + u] = unit;
        }
    });
}

}  // namespace

UnitPlan make_unit_plan(const ListPlan& lists, std::int32_t windows_per_pass, const RunShape& shape,
                        bool adds_to_keys) {
    const std::int64_t windows = windows_per_pass;
    const std::int64_t queries = windows * lists.heads_per_window * lists.tokens_per_window;
    // Rows of a head are those of its queries and a tile for every list.
    const std::int64_t listed_tiles = static_cast<std::int64_t>(lists.tokens_per_window) * lists.slots / list_tile_rows;
    const std::int64_t runs = windows * lists.heads_per_window * (lists.rows_per_head / list_tile_rows - listed_tiles);
    const std::int64_t tiles = lists.rows_per_window / list_tile_rows * windows + queries / list_tile_rows + runs;
    const std::int64_t per_unit = std::max(least_tiles_per_unit, tiles / (units_planned * shape.units_at_once));
    // A run is split when it has more than 1.5 per_unit tiles, into units of items_per_unit items. All items are full
    // but the last one of every query head; the last unit need not be full either.
    const std::int64_t items_per_unit = std::max<std::int64_t>(per_unit / lists.tiles_per_item, 1);
    const std::int64_t most_split_runs = 2 * tiles / (3 * per_unit) + 1, group = lists.heads_q / lists.heads_k;
    UnitPlan plan;
    plan.windows_per_pass = windows_per_pass;
    plan.passes = (lists.windows() + windows_per_pass - 1) / windows_per_pass;
    plan.run_keys = shape.keys;
    plan.runs = (lists.keys_per_list + shape.keys - 1) / shape.keys;
    plan.tiles_per_unit = static_cast<std::int32_t>(per_unit);
    plan.slots_max = static_cast<std::int32_t>(tiles / (items_per_unit * lists.tiles_per_item) +
                                               ((group + items_per_unit - 2) / items_per_unit + 1) * most_split_runs);
    plan.units_max = static_cast<std::int32_t>(plan.slots_max + runs);
    if (adds_to_keys) plan.slots_max += static_cast<std::int32_t>(runs / lists.heads_per_window);
    plan.adds_to_keys = adds_to_keys;
    return plan;
}

Status launch_units(const ListPlan& plan, const UnitPlan& unit_plan, const ListView& lists, const UnitView& units,
                    cudaStream_t stream) {
    Params p{};
    p.items = lists.items;
    p.window_items = lists.window_items;
    p.windows = plan.windows();
    p.group = plan.heads_q / plan.heads_k;
    p.tiles_per_item = plan.tiles_per_item;
    p.plan = unit_plan;
    p.out = units;
    return launch_early("units_kernel", units_kernel, dim3(static_cast<unsigned>(unit_plan.passes)), threads, 0, stream,
                        p);
}

}  // namespace mobalab::kernels::cuda
