#include "experiments/trained/training_records.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace mobalab::experiments {

const std::vector<HeadStatistic>& head_statistics() {
    constexpr const char* of_raw = "in units of q . k as the layer computes it";
    static const std::vector<HeadStatistic> all = {
        {"signal_mean", "mean over queries of the standardised score z of the pair's block",
         "z = (S - mean X) / sd X within the query: S the score of the pair's block, X those of its other past blocks",
         false},
        {"signal_sd", "standard deviation over queries of z", "as signal_mean", true},
        {"margin_mean", "mean over queries of the margin of the pair's block",
         "S less the (k - 1)-th largest X, over sd X within the query; above 0: routed", false},
        {"margin_sd", "standard deviation over queries of the margin", "as margin_mean", true},
        {"mu_signal", "mean cosine of the query and the asked pair's key", "", false},
        {"mu_noise", "mean cosine of the query and the keys of its noise blocks", "", false},
        {"mu_cluster", "mean cosine of the query and the keys of the pair's block that stand out", "", false},
        {"cluster_size", "keys of the pair's block that stand out", "", true},
        {"noise_mean", "mean over queries of the mean score of their noise blocks", of_raw, false},
        {"noise_sd", "standard deviation of noise blocks' scores within a query, root mean square over queries", of_raw,
         true},
        {"token_noise_sd", "standard deviation of q . k over past tokens within a query, root mean square", of_raw,
         true},
        {"effective_dim", "effective dimension of the keys",
         "1 / sum of the squared normalised spectrum of centred keys", true},
        {"key_norm", "root mean square norm of the keys", "", true},
    };
    return all;
}

double HeadRecord::statistic(const std::string& name) const {
    const auto found = statistics.find(name);
    return found == statistics.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

const TrainedRun& TrainingRecords::run(const std::string& name) const {
    const auto found = std::ranges::find(runs, name, &TrainedRun::name);
    if (found == runs.end()) {
        throw std::out_of_range("no run " + name);
    }
    return *found;
}

}  // namespace mobalab::experiments
