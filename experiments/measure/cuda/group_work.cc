#include "experiments/measure/cuda/group_work.h"

namespace mobalab::experiments::cuda {
namespace {

bool keeps_means(const Router& router) {
    const kernels::ScorerDefinition& scorer = *kernels::find_scorer(*router.scorer);
    return scorer.parts == 1 && scorer.part[0].summary == kernels::Summary::mean;
}

SettingColumns columns_of(std::size_t setting, std::int32_t slots, const GroupWork& group, std::int32_t rows,
                          cudaStream_t stream) {
    SettingColumns columns;
    columns.setting = setting;
    columns.slots = slots;
    columns.routed_mass = StreamArray<float>(rows, stream);
    columns.routed_mass_no0 = StreamArray<float>(rows, stream);
    if (group.router->scored) {
        columns.margin = StreamArray<float>(rows, stream);
    }
    if (group.means) {
        columns.differ = StreamArray<std::int8_t>(rows, stream);
    }
    return columns;
}

}  // namespace

Reference reference_of(const Router& router) {
    if (router.scorer) {
        return Reference::none;
    }
    return router.name == "window"   ? Reference::position
           : router.name == "cum2"   ? Reference::cumulant
           : router.name == "oracle" ? Reference::mass
                                     : Reference::not_there;
}

GroupWork::GroupWork(const ScoredGroup& group, std::span<const RouteSetting> settings, const DeviceHead& head,
                     cudaStream_t stream)
    : score(group.score),
      router(group.router),
      reference(reference_of(*group.router)),
      rounded(router->scorer && router->scored && score.centroids == kernels::Centroids::input_dtype),
      means(rounded && keeps_means(*router)) {
    if (router->scorer && router->scored) {
        summaries = head.summaries(*router, score);
    }
    if (means) {
        unrounded = head.unrounded_summaries(score);
    }
    for (const RoutedGroup& same : group.routed) {
        RoutedWork& work = routed.emplace_back();
        work.keep_first = same.keep_first;
        work.slots = head.slots(score.block_size, same.most_topk);
        work.selection = router->scorer ? head.route(*router, score, same.keep_first, same.most_topk)
                                        : StreamArray<std::int32_t>(std::int64_t{head.rows()} * work.slots, stream);
        for (const std::size_t setting : same.settings) {
            const std::int32_t slots = head.slots(score.block_size, settings[setting].topk);
            work.settings.push_back(columns_of(setting, slots, *this, head.rows(), stream));
        }
    }
    if (router->scored) {
        for (StreamArray<float>* column : {&deviation, &needle_score, &mass_score, &mass_score_squared}) {
            *column = StreamArray<float>(head.rows(), stream);
        }
        distance_sums = StreamArray<double>(head.blocks(score.block_size) + 1, stream);
        distance_sums.clear();
    }
}

}  // namespace mobalab::experiments::cuda
