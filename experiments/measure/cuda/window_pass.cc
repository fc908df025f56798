#include "experiments/measure/cuda/window_pass.h"

#include <algorithm>
#include <numbers>

#include "experiments/measure/cuda/block_pass.h"
#include "experiments/measure/cuda/route_outcomes.h"
#include "experiments/measure/cuda/row_pass.h"
#include "experiments/measure/cuda/score_statistics.h"
#include "experiments/measure/cuda/top_k.h"

namespace mobalab::experiments::cuda {

WindowPass::WindowPass(const DeviceHead& head, std::span<const RouteSetting> settings, std::vector<GroupWork>& groups,
                       cudaStream_t stream)
    : lse_log2(head.rows(), stream),
      distant_key(head.rows(), stream),
      head_(head),
      groups_(groups),
      stream_(stream),
      buffers_(head, settings, stream),
      scale_(static_cast<float>(head.scale())),
      scale_log2_(static_cast<float>(head.scale() * std::numbers::log2e)) {
    for (const RouteSetting& setting : settings) {
        BlockColumns& columns = blocks[setting.score.block_size];
        if (columns.past_mass.get() != nullptr) {
            continue;
        }
        for (StreamArray<float>* column :
             {&columns.past_mass, &columns.past_mass_no0, &columns.first_mass, &columns.first_mass_no0}) {
            *column = StreamArray<float>(head.rows(), stream);
        }
        columns.needle_key = StreamArray<std::int32_t>(head.rows(), stream);
    }
}

void WindowPass::run() {
    for (std::int32_t first = 0; first < head_.rows(); first += buffers_.rows) {
        const WindowRows window{.rows = std::min(buffers_.rows, head_.rows() - first),
                                .position = head_.q_start() + first};
        measure_units(window, first);
        for (const auto& [block_size, columns] : blocks) {
            const Part part{.window = window,
                            .first_row = first,
                            .block_size = static_cast<std::int32_t>(block_size),
                            .blocks = head_.blocks(block_size)};
            measure_blocks(part, columns);
            for (GroupWork& group : groups_) {
                if (group.score.block_size == block_size) {
                    measure_group(part, group);
                }
            }
        }
    }
    check_overflow();
}

void WindowPass::measure_units(const WindowRows& window, std::int64_t first_row) {
    const UnitPassArgs units{.window = window,
                             .q = head_.q(static_cast<std::int32_t>(first_row)),
                             .k = head_.k(),
                             .keys = head_.keys(),
                             .scale_log2 = scale_log2_,
                             .units = buffers_.units,
                             .overflowed = buffers_.overflowed.get()};
    check_cuda(launch_unit_pass(head_.dtype(), head_.head_dim(), units, stream_), "sums over units of keys");
    const RowPassArgs rows{.window = window,
                           .units = buffers_.units,
                           .scale_log2 = scale_log2_,
                           .lse_log2 = lse_log2.get() + first_row,
                           .distant_key = distant_key.get() + first_row,
                           .overflowed = buffers_.overflowed.get()};
    check_cuda(launch_row_pass(rows, stream_), "sums over rows");
}

void WindowPass::measure_blocks(const Part& part, const BlockColumns& columns) {
    const auto wanted = [&](Reference reference, const StreamArray<float>& array) {
        const bool any = std::any_of(groups_.begin(), groups_.end(), [&](const GroupWork& group) {
            return group.score.block_size == part.block_size && group.reference == reference;
        });
        return any ? array.get() : nullptr;
    };
    const BlockPassArgs args{.window = part.window,
                             .units = buffers_.units,
                             .lse_log2 = lse_log2.get() + part.first_row,
                             .scale = scale_,
                             .scale_log2 = scale_log2_,
                             .block_size = part.block_size,
                             .blocks = part.blocks,
                             .mass = buffers_.mass.get(),
                             .log_mass = wanted(Reference::mass, buffers_.block_log_mass),
                             .cumulant = wanted(Reference::cumulant, buffers_.cumulant),
                             .first_key_mass = buffers_.first_key_mass.get(),
                             .past_mass = columns.past_mass.get() + part.first_row,
                             .past_mass_no0 = columns.past_mass_no0.get() + part.first_row,
                             .first_mass = columns.first_mass.get() + part.first_row,
                             .first_mass_no0 = columns.first_mass_no0.get() + part.first_row,
                             .needle_key = columns.needle_key.get() + part.first_row};
    check_cuda(launch_block_pass(args, stream_), "sums over blocks");
}

void WindowPass::measure_group(const Part& part, GroupWork& group) {
    if (group.means) {
        compare_unrounded(part, group);  // before score(): both use the same memory
    }
    const Scores scores = score(part, group);
    rank(part, group);
    if (group.router->scored) {
        add_statistics(part, scores, group);
    }
    for (const RoutedWork& routed : group.routed) {
        for (const SettingColumns& setting : routed.settings) {
            add_outcomes(part, scores, routed, setting, group);
        }
    }
}

WindowPass::Scores WindowPass::score(const Part& part, const GroupWork& group) {
    switch (group.reference) {
        case Reference::cumulant:
            return {buffers_.cumulant.get(), false};
        case Reference::mass:
            return {buffers_.mass.get(), true};
        case Reference::none:
            if (!group.router->scored) {
                return {};
            }
            score_products(part, group.summaries);
            return {buffers_.scores.get(), false};
        default:
            return {};
    }
}

void WindowPass::score_products(const Part& part, const DeviceSummaries& summaries) {
    ScorePassArgs args = summaries.args;
    args.window = part.window;
    args.q = head_.q(static_cast<std::int32_t>(part.first_row));
    args.scores = buffers_.scores.get();
    check_cuda(launch_score_pass(head_.dtype(), head_.head_dim(), args, stream_), "scores of blocks");
}

// The oracle ranks by logarithms of masses, which do not run out of exponents as masses do.
void WindowPass::rank(const Part& part, GroupWork& group) {
    if (group.reference == Reference::none) {
        return;  // kernels::route() has ranked them
    }
    const float* const scores = group.reference == Reference::cumulant ? buffers_.cumulant.get()
                                : group.reference == Reference::mass   ? buffers_.block_log_mass.get()
                                                                       : nullptr;
    for (const RoutedWork& routed : group.routed) {
        const TopKArgs args{.window = part.window,
                            .block_size = part.block_size,
                            .scores = scores,
                            .blocks = part.blocks,
                            .selection = routed.selection.get() + part.first_row * routed.slots,
                            .slots = routed.slots,
                            .keep_first = routed.keep_first};
        check_cuda(launch_top_k(args, stream_), "choosing blocks");
    }
}

void WindowPass::add_statistics(const Part& part, const Scores& scores, GroupWork& group) {
    const ScoreStatisticsArgs args{
        .window = part.window,
        .block_size = part.block_size,
        .scores = scores.scores,
        .mass = buffers_.mass.get(),
        .blocks = part.blocks,
        .first_key_mass = buffers_.first_key_mass.get(),
        .score_is_mass = scores.are_masses,
        .needle_key = blocks.at(part.block_size).needle_key.get() + part.first_row,
        .mean = buffers_.mean.get(),
        .deviation = group.deviation.get() + part.first_row,
        .needle_score = group.needle_score.get() + part.first_row,
        .mass_score = group.mass_score.get() + part.first_row,
        .mass_score_squared = group.mass_score_squared.get() + part.first_row,
    };
    check_cuda(launch_score_statistics(args, stream_), "statistics of scores");
    const DistanceSumArgs distances{.of = args,
                                    .distances = static_cast<std::int32_t>(group.distance_sums.count()),
                                    .partial = buffers_.distance_partial.get(),
                                    .sums = group.distance_sums.get()};
    check_cuda(launch_distance_sums(distances, stream_), "scores by distance");
}

void WindowPass::compare_unrounded(const Part& part, GroupWork& group) {
    score_products(part, group.unrounded);
    for (const RoutedWork& routed : group.routed) {
        const TopKArgs ranked{.window = part.window,
                              .block_size = part.block_size,
                              .scores = buffers_.scores.get(),
                              .blocks = part.blocks,
                              .selection = buffers_.unrounded_selection.get(),
                              .slots = routed.slots,
                              .keep_first = routed.keep_first};
        check_cuda(launch_top_k(ranked, stream_), "choosing blocks by unrounded means");
        for (const SettingColumns& setting : routed.settings) {
            const SetDifferenceArgs args{
                .rows = part.window.rows,
                .a = {routed.selection.get() + part.first_row * routed.slots, routed.slots, setting.slots},
                .b = {buffers_.unrounded_selection.get(), routed.slots, setting.slots},
                .differ = setting.differ.get() + part.first_row};
            check_cuda(launch_set_difference(args, stream_), "comparing blocks");
        }
    }
}

void WindowPass::add_outcomes(const Part& part, const Scores& scores, const RoutedWork& routed,
                              const SettingColumns& setting, const GroupWork& group) {
    RouteOutcomesArgs args;
    args.window = part.window;
    args.block_size = part.block_size;
    args.chosen = {routed.selection.get() + part.first_row * routed.slots, routed.slots, setting.slots};
    args.keep_first = routed.keep_first;
    args.mass = buffers_.mass.get();
    args.blocks = part.blocks;
    args.first_key_mass = buffers_.first_key_mass.get();
    args.routed_mass = setting.routed_mass.get() + part.first_row;
    args.routed_mass_no0 = setting.routed_mass_no0.get() + part.first_row;
    if (group.router->scored) {
        args.scores = scores.scores;
        args.score_is_mass = scores.are_masses;
        args.deviation = group.deviation.get() + part.first_row;
        args.margin = setting.margin.get() + part.first_row;
    }
    check_cuda(launch_route_outcomes(args, stream_), "masses of blocks");
}

void WindowPass::check_overflow() const {
    if (buffers_.overflowed.download().front() != 0) {
        throw KernelError("q . k of the trace is beyond fp32; nearest valid choice: queries and keys of model size");
    }
}

}  // namespace mobalab::experiments::cuda
