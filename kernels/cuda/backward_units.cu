#include <algorithm>

#include "kernels/cuda/block_backward.h"
#include "kernels/cuda/status.h"

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
    UnitPlan plan;
    UnitView out;
};

__device__ __forceinline__ int tiles_of(int rows) {
    return (rows + list_tile_rows - 1) / list_tile_rows;
}
__device__ __forceinline__ int tiles_of(const ListItem& item) {
    return tiles_of(item.own_end - item.own_begin) + tiles_of(item.rows);
}
__device__ __forceinline__ bool same_run(const Params& p, const ListItem& a, const ListItem& b) {
    return a.sequence == b.sequence && a.list == b.list && a.head / p.group == b.head / p.group;
}

__device__ __forceinline__ int pass_of(const Params& p, const ListItem& item) {
    return (item.head - p.head_begin) / p.plan.heads_per_pass;
}
/// Passes in order, and in a pass the longest units first.
__device__ __forceinline__ int class_of(const Params& p, int pass, int tiles) {
    return pass * classes + max(0, classes - 1 - tiles * (classes / 2) / p.plan.tiles_per_unit);
}

/// Calls visit(first item, items, tiles, units of the run) for every unit of the run that begins at item `first`.
template <typename Visit>
__device__ __forceinline__ void for_each_unit(const Params& p, int first, int count, const Visit& visit) {
    const ListItem head = p.items[first];
    int end = first, total = 0;
    for (; end < count; ++end) {
        const ListItem item = p.items[end];
        if (!same_run(p, head, item)) break;
        total += tiles_of(item);
    }
    const bool whole = 2 * total <= 3 * p.plan.tiles_per_unit;
    if (whole) {
        visit(first, end - first, total, true);
        return;
    }
    int begin = first, tiles = 0;
    for (int i = first; i < end; ++i) {
        const int more = tiles_of(p.items[i]);
        if (tiles > 0 && tiles + more > p.plan.tiles_per_unit) {
            visit(begin, i - begin, tiles, false);
            begin = i;
            tiles = 0;
        }
        tiles += more;
    }
    visit(begin, end - begin, tiles, false);
}

__global__ void __launch_bounds__(threads, 1) units_kernel(const Params p) {
    __shared__ int places[max_passes * classes];
    __shared__ int slots[max_passes], splits[max_passes];
    const int t = static_cast<int>(threadIdx.x);
    const int count = *p.item_count, all_classes = p.plan.passes * classes;
    if (t < all_classes) places[t] = 0;
    if (t < max_passes) slots[t] = splits[t] = 0;
    __syncthreads();
    const auto begins_run = [&](int i) { return i == 0 || !same_run(p, p.items[i - 1], p.items[i]); };
    for (int i = t; i < count; i += threads) {
        if (!begins_run(i)) continue;
        const int pass = pass_of(p, p.items[i]);
        for_each_unit(p, i, count, [&](int, int, int tiles, bool) { atomicAdd(places + class_of(p, pass, tiles), 1); });
    }
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
    for (int i = t; i < count; i += threads) {
        if (!begins_run(i)) continue;
        const int pass = pass_of(p, p.items[i]);
        int units = 0;
        for_each_unit(p, i, count, [&](int, int, int, bool whole) { units += whole ? 0 : 1; });
        int slot = -1;
        if (units > 0) {
            slot = atomicAdd(slots + pass, units);
            p.out.pass(p.plan, pass).splits[atomicAdd(splits + pass, 1)] = {i, slot, units, 0};
        }
        for_each_unit(p, i, count, [&](int first, int items, int tiles, bool whole) {
            BackwardUnit unit;
            unit.first_item = first;
            unit.item_count = items;
            unit.tiles = tiles;
            unit.slot = whole ? -1 : slot++;
            p.out.units[atomicAdd(places + class_of(p, pass, tiles), 1)] = unit;
        });
    }
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
    // Every unit of a split run but its last has more than per_unit - tiles_per_item tiles, and the run more than 1.5
    // times per_unit.
    const std::int64_t least = std::max<std::int64_t>(per_unit - lists.tiles_per_item, 1);
    UnitPlan plan;
    plan.heads_per_pass = heads_per_pass;
    plan.passes = (lists.heads_per_chunk + heads_per_pass - 1) / heads_per_pass;
    plan.tiles_per_unit = static_cast<std::int32_t>(per_unit);
    plan.slots_max = static_cast<std::int32_t>(tiles / least + 2 * tiles / (3 * per_unit) + 1);
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
    p.plan = unit_plan;
    p.out = units;
    units_kernel<<<1, threads, 0, stream>>>(p);
    return launch_status("units_kernel");
}

}  // namespace mobalab::kernels::cuda
