#include "experiments/predict/trace_validation.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

#include "experiments/predict/stated_error.h"
#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

struct Kind {
    const char* of_setting;
    const char* of_trace;
    Quantity quantity;
    double Prediction::*predicted;
    double StatedError::*single;
    double StatedError::*mean;
};

constexpr Kind kinds[] = {{"needle_hit", "mean_needle_error", Quantity::needle_hit, &Prediction::needle_hit,
                           &StatedError::single_needle_hit, &StatedError::mean_needle_hit},
                          {"mass_recall", "mean_mass_error", Quantity::mass_recall, &Prediction::mass_recall,
                           &StatedError::single_mass_recall, &StatedError::mean_mass_recall}};

/// Every row of the trace keeps all of its candidates: nothing is predicted by saying 1.
bool keeps_all(const TracePlan& plan, const RouteSetting& setting) {
    const TraceInfo& info = plan.trace.info();
    return setting.topk - 1 >= (info.q_start + info.queries - 1) / setting.score.block_size;
}

class Comparer {
public:
    Comparer(const MeasurePlan& plan, const PredictionRequest& request, const TraceLevels& levels)
        : plan_(plan), request_(request), levels_(levels) {}

    std::vector<TraceComparison> compare(const std::vector<std::vector<MeasuredSetting>>& measured,
                                         const std::vector<std::vector<ToldPrediction>>& predictions) const {
        std::vector<TraceComparison> all;
        for (const Kind& kind : kinds) {
            for (std::size_t trace = 0; trace < plan_.traces.size(); ++trace) {
                add(kind, trace, measured, predictions, all);
            }
        }
        return all;
    }

private:
    void add(const Kind& kind, std::size_t trace, const std::vector<std::vector<MeasuredSetting>>& measured,
             const std::vector<std::vector<ToldPrediction>>& predictions, std::vector<TraceComparison>& all) const {
        const TracePlan& of_trace = plan_.traces[trace];
        const StatedError stated = stated_error(request_.law, prediction_source(of_trace, request_));
        double count = 0.0;
        double errors = 0.0;
        double halves = 0.0;
        double fewest_clusters = std::numeric_limits<double>::infinity();
        std::int64_t row = -1;
        for (std::size_t u = 0; u < plan_.units.size(); ++u) {
            const std::size_t settings = plan_.traces[plan_.units[u].trace].settings.size();
            for (std::size_t s = 0; s < settings; ++s) {
                ++row;
                if (plan_.units[u].trace != trace || keeps_all(of_trace, of_trace.settings[s])) continue;
                const double* values = &measured[u][s].values[static_cast<std::size_t>(kind.quantity)];
                const double predicted = predictions[u][s].prediction.*kind.predicted;
                if (std::isnan(values[0]) || std::isnan(predicted)) continue;
                const double half = 0.5 * (values[2] - values[1]);
                const auto clusters =
                    static_cast<double>(measured[u][s].counts[static_cast<std::size_t>(MeasuredCount::query_blocks)]);
                const double longer = deviations(levels_.setting, clusters) / deviations(levels_.mean, clusters);
                const double chance = predicted > values[0] ? values[2] - values[0] : values[0] - values[1];
                all.push_back(
                    {.kind = kind.of_setting,
                     .trace = trace,
                     .setting = row,
                     .measured = values[0],
                     .predicted = predicted,
                     .stated_error = stated.*kind.single,
                     .chance = longer * chance,
                     .detectable_error = detectable(stated.*kind.single, longer * half, levels_.setting, clusters)});
                fewest_clusters = std::min(fewest_clusters, clusters);
                count += 1.0;
                errors += std::abs(values[0] - predicted);
                halves += half;
            }
        }
        if (count == 0.0) return;
        all.push_back(
            {.kind = kind.of_trace,
             .trace = trace,
             .setting = -1,
             .measured = errors / count,
             .predicted = 0.0,
             .stated_error = stated.*kind.mean,
             .chance = halves / count,
             .detectable_error = detectable(stated.*kind.mean, halves / count, levels_.mean, fewest_clusters)});
    }

    /// Half an interval of this two-sided level in standard errors.
    static double deviations(double level, double clusters) {
        const boost::math::students_t law(std::max(1.0, clusters - 1.0));
        return boost::math::quantile(boost::math::complement(law, level / 2.0));
    }

    /// The estimate must come out beyond the stated error and chance.
    static double detectable(double stated, double half, double level, double clusters) {
        constexpr double of_power = 1.2815515655446004;  // normal quantile of 0.9
        return stated + half * (1.0 + of_power / deviations(level, clusters));
    }

    const MeasurePlan& plan_;
    const PredictionRequest& request_;
    TraceLevels levels_;
};

}  // namespace

bool TraceComparison::agrees() const {
    return std::abs(measured - predicted) <= stated_error + chance;
}

TraceLevels trace_levels(const MeasurePlan& plan, double alpha) {
    double settings = 0.0;
    for (const MeasureUnit& unit : plan.units) settings += static_cast<double>(plan.traces[unit.trace].settings.size());
    const double of_kind = 0.5 * alpha / static_cast<double>(std::size(kinds));
    return {of_kind / static_cast<double>(plan.traces.size()), of_kind / settings};
}

std::vector<TraceComparison> compare_with_predictions(const MeasurePlan& plan,
                                                      const std::vector<std::vector<MeasuredSetting>>& measured,
                                                      const std::vector<std::vector<ToldPrediction>>& predictions,
                                                      const PredictionRequest& request, const TraceLevels& levels) {
    return Comparer(plan, request, levels).compare(measured, predictions);
}

Table trace_comparisons_table(const MeasurePlan& plan, const std::vector<TraceComparison>& comparisons) {
    using Row = TraceComparison;
    return {.name = "validate_comparisons",
            .dimension = "comparison",
            .columns = {
                make_column(comparisons, "trace", "file name of the trace",
                            [&](const Row& row) {
                                return std::filesystem::path(plan.traces[row.trace].trace.path()).filename().string();
                            }),
                make_column(comparisons, "kind", "what is compared", [](const Row& row) { return row.kind; }),
                make_column(comparisons, "setting", "row of the table validate; -1: all settings of the trace",
                            [](const Row& row) { return row.setting; }),
                make_column(comparisons, "measured", "by the kernel; of mean errors the mean of |measured - predicted|",
                            [](const Row& row) { return row.measured; }),
                make_column(comparisons, "predicted", "by the law; of mean errors 0",
                            [](const Row& row) { return row.predicted; }),
                make_column(comparisons, "stated_error", "how far the law may be off",
                            [](const Row& row) { return row.stated_error; }),
                make_column(
                    comparisons, "chance", "how far chance may move the measurement",
                    [](const Row& row) { return row.chance; },
                    "to the end of the interval on the prediction's side; of mean errors half the mean length of the "
                    "intervals; alpha is shared by all (Bonferroni), half of it by the mean errors"),
                make_column(comparisons, "detectable_error", "error that is found with probability 0.9",
                            [](const Row& row) { return row.detectable_error; }),
                make_column(comparisons, "agrees", "1: within stated_error and chance",
                            [](const Row& row) { return std::int64_t{row.agrees() ? 1 : 0}; })}};
}

}  // namespace mobalab::experiments
