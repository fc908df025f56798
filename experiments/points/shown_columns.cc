#include "experiments/points/shown_columns.h"

#include <ostream>

#include "analysis/routing_point.h"
#include "experiments/results/csv_text.h"

namespace mobalab::experiments {

std::vector<ShownColumn> point_parameters() {
    return {{"model", "model"},
            {"head_dim", "d"},
            {"block_size", "B"},
            {"seq_len", "N", true},
            {"candidates", "c"},
            {"topk", "k"},
            {"budget", "kB"},
            {"cluster_size", "m"},
            {"mu_signal", "mu"},
            {"mu_noise", "mu_noise"},
            {"mu_cluster", "mu_cluster"},
            {"needles", "R"},
            {"goal", "goal"},
            {"key_correlation", "rho"},
            {"key_memory", "memory"},
            {"key_mean", "key_mean"},
            {"query_mean", "query_mean"},
            {"effective_dim", "d_eff"},
            {"sink", "sink"},
            {"key_conv", "W"},
            {"key_conv_tap", "tap"},
            {"key_conv_activation", "activation"},
            {"scorer", "scorer"}};
}

std::vector<ShownColumn> theory_answers(const Table& table) {
    std::vector<ShownColumn> answers = {{"snr", "snr"},
                                        {"reliable_snr", "reliable_snr"},
                                        {"pairwise_miss", "pairwise_miss"},
                                        {"hit_probability", "hit"},
                                        {"miss_probability", "miss"}};
    if (table.has("approximate_miss_probability")) {
        answers.push_back({"approximate_miss_probability", "approx_miss"});
    }
    return answers;
}

std::vector<ShownColumn> simulated_parameters() {
    std::vector<ShownColumn> parameters = point_parameters();
    parameters.push_back({"method", "method"});
    return parameters;
}

std::vector<ShownColumn> simulated_answers() {
    return {{"trials", "trials"},
            {"misses", "misses"},
            {"miss", "miss"},
            {"low", "low"},
            {"high", "high"},
            {"miss_probability", "exact_miss"},
            {"stop_reason", "stopped_by"}};
}

bool print_for_program(const Table& table, const Arguments& arguments, Terminal& terminal) {
    if (arguments.on("json") && arguments.on("csv")) {
        throw analysis::InputError("json, csv: are two ways to print one table; give one of the two");
    }
    if (arguments.on("json")) {
        terminal.out << json_table(table);
    } else if (arguments.on("csv")) {
        terminal.out << csv_table(table);
    }
    return arguments.on("json") || arguments.on("csv");
}

}  // namespace mobalab::experiments
