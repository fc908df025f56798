#include "kernels/cuda/lists/lists.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "kernels/cuda/host/launch.h"
#include "kernels/cuda/host/status.h"
#include "kernels/cuda/host/workspace.h"
#include "kernels/cuda/lists/list_count.cuh"
#include "kernels/cuda/lists/list_emit.cuh"
#include "kernels/cuda/lists/list_emit_selected.cuh"
#include "kernels/cuda/lists/list_scan.cuh"
#include "kernels/cuda/lists/selected_lists.cuh"

// Three kernels: count (entries per segment of queries and list), scan (where segments begin within their lists, and
// what lists and parts count), emit (entries, positions, items: its thread blocks add up what comes before theirs).
// A thread holds the selected blocks of a query and sorts them, so blocks that share a list are neighbours. A warp then
// takes its queries one after the other and counts the entries of every list in a table of its own: the number it finds
// is the rank of an entry among those of the warp, and sums over the warps before it give its place. Lists of a query
// differ, so the order is that of the queries whatever the order in which threads come. Rows of more than
// most_sorted_slots slots are sorted in shared memory, by kernels of their own for count and emit.
namespace mobalab::kernels::cuda {
namespace {

std::size_t carve(const ListPlan& plan, void* workspace, ListParams& p) {
    WorkspaceCarver carver(workspace);
    const std::int64_t heads = plan.heads_per_chunk;
    p.counts = carver.take<std::int32_t>(heads * plan.segments_per_head * plan.lists_max);
    p.list_count = carver.take<std::int32_t>(heads * plan.token_windows * plan.lists_per_head);
    p.item_count = carver.take<std::int32_t>(parts_of(plan));
    p.item_count_of_group = carver.take<std::int32_t>(parts_of(plan) / parts_per_group + 1);
    p.entries = carver.take<std::uint32_t>(plan.rows);
    p.positions = carver.take<std::int32_t>(heads * plan.tokens_per_chunk * plan.slots);
    p.items = carver.take<ListItem>(plan.items_max);
    p.window_items = carver.take<std::int32_t>(plan.windows() + 1);
    p.counters = carver.take<std::int32_t>(plan.counters);
    return carver.used();
}

/// Between count and emit.
Status launch_scan(const ListParams& p, cudaStream_t stream) {
    const int sharers = scan_sharers(p.plan.segments_max), lists = scan_threads / sharers;
    const dim3 grid(static_cast<unsigned>(p.plan.pieces), static_cast<unsigned>(p.chunk.head_count),
                    static_cast<unsigned>((p.plan.lists_max + lists - 1) / lists));
    if (grid.z == 0) return {};
    return launch_early("scan_kernel", scan_kernel, grid, scan_threads, 0, stream, p, sharers);
}

template <int Width, bool Ranged>
Status launch_count(const ListParams& p, cudaStream_t stream) {
    const ListPlan& plan = p.plan;
    const auto kernel = count_kernel<Width, Ranged>;
    const auto bytes = static_cast<std::size_t>(count_bytes(plan.lists_per_range, plan.slots));
    if (Status s = allow_shared_memory("count_kernel", reinterpret_cast<const void*>(kernel), bytes); !s.ok()) return s;
    const dim3 grid(static_cast<unsigned>(plan.segments_max * plan.pieces), static_cast<unsigned>(p.chunk.head_count),
                    static_cast<unsigned>(plan.ranges()));
    return launch_early("count_kernel", kernel, grid, count_warps * 32, bytes, stream, p);
}

template <int Width, bool Ranged, int Warps>
Status launch_emit(const ListParams& p, cudaStream_t stream) {
    const ListPlan& plan = p.plan;
    const auto kernel = emit_kernel<Width, Ranged, Warps>;
    const auto bytes = static_cast<std::size_t>(emit_bytes(plan.lists_per_range, plan.slots, Warps));
    if (Status s = allow_shared_memory("emit_kernel", reinterpret_cast<const void*>(kernel), bytes); !s.ok()) return s;
    const dim3 grid(static_cast<unsigned>((plan.segments_max + 1) * plan.pieces),
                    static_cast<unsigned>(p.chunk.head_count), static_cast<unsigned>(plan.ranges()));
    return launch_early("emit_kernel", kernel, grid, Warps * 32, bytes, stream, p);
}

template <int Width, bool Ranged>
Status launch_kernels(const ListParams& p, cudaStream_t stream) {
    if (Status s = launch_count<Width, Ranged>(p, stream); !s.ok()) return s;
    if (Status s = launch_scan(p, stream); !s.ok()) return s;
    if (p.plan.emit_warps > usual_emit_warps) return launch_emit<Width, Ranged, lone_emit_warps(Width)>(p, stream);
    return launch_emit<Width, Ranged, usual_emit_warps>(p, stream);
}

template <int Width>
Status launch(const ListParams& p, cudaStream_t stream) {
    return p.plan.ranges() > 1 ? launch_kernels<Width, true>(p, stream) : launch_kernels<Width, false>(p, stream);
}

Status launch_selected(const ListParams& p, cudaStream_t stream) {
    const ListPlan& plan = p.plan;
    const auto heads = static_cast<unsigned>(p.chunk.head_count), pieces = static_cast<unsigned>(plan.pieces);
    const auto segments = static_cast<unsigned>(plan.segments_max);
    const int words = plan.lists_max * plan.blocks_per_list / 32 + 1;
    const std::size_t bit_bytes = selected_warps * static_cast<std::size_t>(words) * sizeof(std::uint32_t);
    if (Status s = allow_shared_memory("count_selected_kernel", reinterpret_cast<const void*>(count_selected_kernel),
                                       bit_bytes);
        !s.ok())
        return s;
    if (Status s = launch_early("count_selected_kernel", count_selected_kernel, dim3(segments * pieces, heads),
                                selected_threads, bit_bytes, stream, p, words);
        !s.ok())
        return s;
    if (Status s = launch_scan(p, stream); !s.ok()) return s;
    const std::size_t bytes = std::max(static_cast<std::size_t>(plan.lists_per_range) * EmitSelectedShared::list_bytes,
                                       2 * selected_threads * sizeof(std::int32_t));  // lists, items
    if (Status s =
            allow_shared_memory("emit_selected_kernel", reinterpret_cast<const void*>(emit_selected_kernel), bytes);
        !s.ok())
        return s;
    return launch_early("emit_selected_kernel", emit_selected_kernel, dim3((segments + 1) * pieces, heads),
                        selected_threads, bytes, stream, p);
}

}  // namespace

std::size_t list_workspace_size(const ListPlan& plan) {
    ListParams p{};
    return carve(plan, nullptr, p);
}

Status build_lists(const ListPlan& plan, std::int32_t chunk, const std::int32_t* selection, void* workspace,
                   cudaStream_t stream, ListView& view) {
    ListParams p{};
    p.plan = plan;
    p.chunk = plan.chunk(chunk);
    p.selection = selection;
    p.list_shift = std::countr_zero(static_cast<std::uint32_t>(plan.blocks_per_list));
    if (plan.rows > std::numeric_limits<std::int32_t>::max()) {
        return {StatusCode::unsupported, "lists: " + std::to_string(plan.rows) +
                                             " rows in one chunk do not fit 32-bit row numbers; nearest valid choice: "
                                             "fewer rows per chunk"};
    }
    carve(plan, workspace, p);
    view = {p.chunk, p.entries, p.positions, p.items, p.window_items + plan.windows(), p.window_items, p.counters};
    if (plan.slots > most_sorted_slots) return launch_selected(p, stream);
    switch (pair_width(plan.slots)) {
        case 8:
            return launch<8>(p, stream);
        case 16:
            return launch<16>(p, stream);
        case 32:
            return launch<32>(p, stream);
        default:
            return launch<most_sorted_slots>(p, stream);
    }
}

}  // namespace mobalab::kernels::cuda
