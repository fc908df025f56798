#include "experiments/measure/measure_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "analysis/routing_point.h"
#include "analysis/scorer.h"
#include "experiments/base/values.h"
#include "experiments/measure/router.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;

/// The score setting of a name, for any block size.
ScoreSetting parse_router(const std::string& name) {
    const Router* router = find_router(name);
    if (router != nullptr && router->score != nullptr) {
        return {.router = name};
    }
    try {
        const analysis::Scorer scorer = analysis::parse_scorer(name);
        return {.router = std::string(analysis::definition_of(scorer.kind).name), .sub_blocks = scorer.sub_blocks};
    } catch (const InputError&) {
        std::vector<std::string> names;
        for (const Router& known : routers()) {
            names.emplace_back(known.name);
        }
        throw InputError(
            fmt::format("scorer = {}: must be one of {}{}", name, router_names(), nearest_hint(name, names)));
    }
}

std::string mistake_of_budget(std::int64_t budget, std::int64_t size) {
    if (budget % size == 0) {
        return "";
    }
    return fmt::format("budget = {} with block-size = {}: must be whole blocks; nearest valid: {}", budget, size,
                       std::max<std::int64_t>(1, (budget + size / 2) / size) * size);
}

std::string mistake_of_blocks(const RouteSetting& setting, const std::string& asked, const Trace& trace) {
    const TraceInfo& info = trace.info();
    const std::int64_t end = info.q_start + info.queries;
    const std::int64_t size = setting.score.block_size;
    if (size >= end) {
        return fmt::format(
            "block-size = {}: the last query of {} stands at {}, so no row has a block before its own; nearest valid: "
            "{}",
            size, trace.path(), end - 1, std::max<std::int64_t>(1, end - 1));
    }
    const std::int64_t blocks = (end + size - 1) / size;
    if (setting.topk > blocks) {
        return fmt::format("{} with block-size = {}: {} has {} blocks up to its last query; nearest valid: topk = {}",
                           asked, size, trace.path(), blocks, blocks);
    }
    return "";
}

std::string mistake_of_sub_blocks(const ScoreSetting& score) {
    if (score.block_size % score.sub_blocks == 0) {
        return "";
    }
    std::int64_t nearest = 1;
    for (std::int64_t divisor = 1; divisor <= score.block_size; ++divisor) {
        if (score.block_size % divisor == 0 &&
            std::abs(divisor - score.sub_blocks) < std::abs(nearest - score.sub_blocks)) {
            nearest = divisor;
        }
    }
    return fmt::format("scorer = {} with block-size = {}: sub-blocks must divide the block; nearest valid: submean-{}",
                       scorer_text(score), score.block_size, nearest);
}

/// Settings of one trace, and the mistakes of those that cannot be.
class SettingList {
public:
    SettingList(const MeasureRequest& request, const Trace& trace) : trace_(trace) {
        std::vector<ScoreSetting> scores;
        for (const std::string& name : request.scorers) {
            scores.push_back(parse_router(name));
        }
        for (const std::int64_t size : request.block_sizes) {
            for (const auto& [topk, asked] : topks_of(request, size)) {
                for (ScoreSetting score : scores) {
                    score.block_size = size;
                    const bool summarised = find_router(score.router)->score == nullptr;
                    score.centroids = summarised ? request.centroids : kernels::Centroids::input_dtype;
                    for (const bool keep_first : request.keep_first) {
                        add({.score = score, .topk = topk, .keep_first = keep_first}, asked);
                    }
                }
            }
        }
    }

    std::vector<RouteSetting> settings;
    std::vector<std::string> mistakes;

private:
    struct AskedTopk {
        std::int64_t topk;
        std::string asked;
    };

    std::vector<AskedTopk> topks_of(const MeasureRequest& request, std::int64_t size) {
        std::vector<AskedTopk> all;
        for (const std::int64_t budget : request.budgets) {
            if (const std::string mistake = mistake_of_budget(budget, size); !mistake.empty()) {
                mistakes.push_back(mistake);
            } else {
                all.push_back({budget / size, fmt::format("budget = {} (topk = {})", budget, budget / size)});
            }
        }
        for (const std::int64_t topk : request.topks) {
            all.push_back({topk, fmt::format("topk = {}", topk)});
        }
        std::stable_sort(all.begin(), all.end(),
                         [](const AskedTopk& a, const AskedTopk& b) { return a.topk < b.topk; });
        all.erase(std::unique(all.begin(), all.end(),
                              [](const AskedTopk& a, const AskedTopk& b) { return a.topk == b.topk; }),
                  all.end());
        return all;
    }

    void add(const RouteSetting& setting, const std::string& asked) {
        std::string mistake = mistake_of_blocks(setting, asked, trace_);
        if (mistake.empty()) {
            mistake = mistake_of_sub_blocks(setting.score);
        }
        if (mistake.empty()) {
            settings.push_back(setting);
        } else {
            mistakes.push_back(mistake);
        }
    }

    const Trace& trace_;
};

/// `wanted`, each one of `present`; all of them where none is wanted.
std::vector<std::int64_t> chosen(const std::string& name, const std::vector<std::int64_t>& wanted,
                                 const std::vector<std::int64_t>& present, const std::string& path) {
    for (const std::int64_t number : wanted) {
        if (std::find(present.begin(), present.end(), number) == present.end()) {
            const std::int64_t nearest = *std::min_element(present.begin(), present.end(), [&](auto a, auto b) {
                return std::abs(a - number) < std::abs(b - number);
            });
            throw InputError(fmt::format("{} = {}: {} holds {} {}; nearest valid: {}", name, number, path, name,
                                         fmt::join(present, ", "), nearest));
        }
    }
    return wanted.empty() ? present : wanted;
}

std::vector<std::int64_t> numbers_below(std::int64_t count) {
    std::vector<std::int64_t> numbers;
    for (std::int64_t number = 0; number < count; ++number) {
        numbers.push_back(number);
    }
    return numbers;
}

}  // namespace

std::string router_names() {
    std::string names = analysis::scorer_names();
    for (const Router& router : routers()) {
        if (router.score != nullptr) {
            names += fmt::format(", {}", router.name);
        }
    }
    return names;
}

std::string scorer_text(const ScoreSetting& setting) {
    const Router* router = find_router(setting.router);
    const bool divides = router->scorer && kernels::find_scorer(*router->scorer)->divides;
    return divides ? fmt::format("{}-{}", setting.router, setting.sub_blocks) : setting.router;
}

MeasurePlan plan_measurement(const std::vector<std::string>& paths, const MeasureRequest& request) {
    MeasurePlan plan;
    for (const std::string& path : paths) {
        Trace trace = Trace::open(path);
        SettingList list(request, trace);
        if (!list.mistakes.empty() && (!request.skip_impossible || list.settings.empty())) {
            const std::size_t more = list.mistakes.size() - 1;
            throw InputError(
                list.mistakes.front() +
                (more > 0 ? fmt::format(" (and {} more; --skip-impossible leaves such settings out)", more) : ""));
        }
        if (plan.left_out == 0 && !list.mistakes.empty()) {
            plan.first_left_out = list.mistakes.front();
        }
        plan.left_out += static_cast<std::int64_t>(list.mistakes.size());
        const std::vector<std::int64_t> layers = chosen("layer", request.layers, trace.layers(), path);
        const std::vector<std::int64_t> heads =
            chosen("head", request.heads, numbers_below(trace.info().query_heads), path);
        for (const std::int64_t layer : layers) {
            for (const std::int64_t head : heads) {
                plan.units.push_back({plan.traces.size(), layer, head});
            }
        }
        const kernels::DataType dtype = request.dtype.value_or(trace.dtype());
        plan.traces.push_back({std::move(trace), dtype, std::move(list.settings), layers, heads});
    }
    return plan;
}

}  // namespace mobalab::experiments
