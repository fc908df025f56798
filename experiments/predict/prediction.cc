#include "experiments/predict/prediction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "analysis/measured_scores/candidate_rows.h"
#include "analysis/measured_scores/one_pass_law.h"
#include "analysis/routing_point.h"
#include "experiments/base/parallel_for.h"
#include "experiments/base/values.h"
#include "experiments/predict/block_sample.h"
#include "experiments/predict/token_pass.h"

namespace mobalab::experiments {
namespace {

using analysis::CandidateRows;
using analysis::Target;

constexpr double none = std::numeric_limits<double>::quiet_NaN();

bool knows(PredictionLaw law, const RouteSetting& setting) {
    const std::int64_t size = setting.score.block_size;
    return setting.score.router == "mean" && size >= 2 && size <= analysis::most_block_size &&
           (law == PredictionLaw::one_pass || !setting.keep_first);
}

/// Five numbers of candidates that stand for those of the rows (fewer where the rows have fewer). Needles need a third
/// candidate, or two in blocks of more than one key.
std::vector<CandidateRows> candidate_rows(std::span<const std::int64_t> positions, std::int64_t size, Target target) {
    std::vector<std::int64_t> candidates;
    for (const std::int64_t position : positions) {
        const std::int64_t own = position / size;
        if (target == Target::needle ? (own - 2) * size > 1 : own >= 1) candidates.push_back(own);
    }
    std::sort(candidates.begin(), candidates.end());
    std::vector<CandidateRows> rows;
    constexpr std::size_t wanted = 5;
    for (std::size_t i = 0; i < wanted && !candidates.empty(); ++i) {
        rows.push_back({candidates[(2 * i + 1) * candidates.size() / (2 * wanted)], 1.0});
    }
    return rows;
}

/// All settings of one block size and target.
class BlockPredictions {
public:
    BlockPredictions(PredictionLaw law, const HeadScores& scores, const analysis::TokenStatistics& statistics,
                     std::span<const std::int64_t> positions, std::int64_t size, Target target)
        : law_(law), statistics_(statistics), size_(size), target_(target) {
        rows_ = candidate_rows(positions, size, target);
        if (law != PredictionLaw::one_pass) {
            sample_ = block_sample(scores, size, target == Target::mass);
            if (sample_.targets.empty() || sample_.rivals.empty()) rows_.clear();
            if (law == PredictionLaw::empirical && !rows_.empty()) rivals_.emplace(sample_.rivals);
        } else {
            const auto& populations = target == Target::needle ? statistics.needles : statistics.masses;
            if (!populations.contains(size)) rows_.clear();
        }
    }

    /// With each of these numbers of slots; NaN: nothing is known.
    std::vector<double> hits(const std::vector<std::int64_t>& slots, bool keep_first) const {
        if (rows_.empty()) return std::vector<double>(slots.size(), none);
        std::vector<double> mean(slots.size(), 0.0);
        double weight = 0.0;
        for (const CandidateRows& row : rows_) {
            const std::vector<double> values = of_candidates(row.candidates, slots, keep_first);
            for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += row.rows * values[i];
            weight += row.rows;
        }
        for (double& value : mean) value /= weight;
        return mean;
    }

private:
    std::vector<double> of_candidates(std::int64_t candidates, const std::vector<std::int64_t>& slots,
                                      bool keep_first) const {
        std::vector<double> values;
        if (law_ == PredictionLaw::one_pass) {
            const std::int64_t most = *std::max_element(slots.begin(), slots.end());
            const std::vector<double> hits =
                analysis::OnePassLaw(statistics_).hits(target_, size_, candidates, most, keep_first);
            for (const std::int64_t k : slots) values.push_back(hits[static_cast<std::size_t>(k)]);
        } else if (law_ == PredictionLaw::standardised) {
            const analysis::StandardisedSignal signal = standardised(sample_);
            for (const std::int64_t k : slots) {
                values.push_back(analysis::hit_of_standardised(signal, candidates, k));
            }
        } else {
            for (const std::int64_t k : slots) {
                values.push_back(analysis::hit_of_samples(sample_.targets, *rivals_, candidates, k));
            }
        }
        return values;
    }

    PredictionLaw law_;
    const analysis::TokenStatistics& statistics_;
    std::int64_t size_;
    Target target_;
    std::vector<CandidateRows> rows_;
    BlockSample sample_;
    std::optional<analysis::EmpiricalScores> rivals_;  ///< of the empirical law
};

/// Settings that are answered together.
struct Job {
    std::int64_t size;
    bool keep_first;
    Target target;
    friend auto operator<=>(const Job&, const Job&) = default;
};

}  // namespace

std::vector<std::string> prediction_law_names() {
    return {"one-pass", "standardised", "empirical"};
}

PredictionLaw parse_prediction_law(std::string_view name) {
    const std::vector<std::string> names = prediction_law_names();
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
        throw analysis::InputError(fmt::format("predict = {}: must be one of {}{}", name, fmt::join(names, ", "),
                                               nearest_hint(std::string(name), names)));
    }
    return static_cast<PredictionLaw>(found - names.begin());
}

std::vector<Prediction> predict(PredictionLaw law, const HeadScores& scores, std::span<const std::int64_t> positions,
                                std::span<const RouteSetting> settings, int threads) {
    std::vector<Prediction> predictions(settings.size(), {none, none});
    std::map<Job, std::vector<std::size_t>> jobs;
    std::set<std::int64_t> sizes;
    for (std::size_t i = 0; i < settings.size(); ++i) {
        if (!knows(law, settings[i])) continue;
        for (const Target target : {Target::needle, Target::mass}) {
            jobs[{settings[i].score.block_size, settings[i].keep_first, target}].push_back(i);
        }
        sizes.insert(settings[i].score.block_size);
    }
    if (jobs.empty()) return predictions;
    analysis::TokenStatistics statistics;
    if (law == PredictionLaw::one_pass) {
        statistics = token_statistics(scores, std::vector<std::int64_t>(sizes.begin(), sizes.end()));
    }
    const std::vector<std::pair<Job, std::vector<std::size_t>>> list(jobs.begin(), jobs.end());
    parallel_for(list.size(), threads, [&](std::size_t i) {
        const auto& [job, asking] = list[i];
        std::vector<std::int64_t> slots;
        for (const std::size_t setting : asking) slots.push_back(settings[setting].topk - 1);
        const std::vector<double> hits =
            BlockPredictions(law, scores, statistics, positions, job.size, job.target).hits(slots, job.keep_first);
        for (std::size_t j = 0; j < asking.size(); ++j) {
            Prediction& prediction = predictions[asking[j]];
            (job.target == Target::needle ? prediction.needle_hit : prediction.mass_recall) = hits[j];
        }
    });
    return predictions;
}

}  // namespace mobalab::experiments
