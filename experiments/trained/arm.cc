#include "experiments/trained/arm.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "experiments/base/regular_file.h"
#include "experiments/trace/checked_json.h"

namespace mobalab::experiments {
namespace {

auto sizes_of(const TrainedRun& run) {
    return std::tie(run.heads, run.layers, run.width);
}

void require_alike(const TrainedRun& one, const TrainedRun& other) {
    if (sizes_of(one) != sizes_of(other)) {
        throw FileError(fmt::format(
            "{}: run {} is of the same arm ({}) as run {} ({}), and differs from it in heads, layers or width; "
            "read them apart",
            other.place, shown(other.name), arm_of(other), shown(one.name), one.place));
    }
}

}  // namespace

std::string arm_of(const TrainedRun& run) {
    std::string arm = run.attention;
    if (run.is_moba()) {
        arm += fmt::format(" B {} k {}", run.block_size, run.topk);
    }
    arm += fmt::format(" d {}", run.head_dim);
    if (run.is_moba() && run.scorer != "mean") {
        arm += " " + run.scorer;
    }
    return run.key_conv > 0 ? fmt::format("{} conv {}", arm, run.key_conv) : arm;
}

std::vector<std::vector<const TrainedRun*>> runs_by_arm(const TrainingRecords& records) {
    std::vector<std::vector<const TrainedRun*>> arms;
    for (const TrainedRun& run : records.runs) {
        const auto same = std::ranges::find_if(arms, [&](const auto& arm) {
            return arm.front()->experiment == run.experiment && arm_of(*arm.front()) == arm_of(run);
        });
        if (same == arms.end()) {
            arms.push_back({&run});
        } else {
            require_alike(*same->front(), run);
            same->push_back(&run);
        }
    }
    return arms;
}

}  // namespace mobalab::experiments
