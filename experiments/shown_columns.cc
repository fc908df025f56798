#include "experiments/shown_columns.h"

namespace mobalab::experiments {

std::vector<ShownColumn> point_parameters() {
    return {{"model", "model"},         {"head_dim", "d"},
            {"block_size", "B"},        {"seq_len", "N", true},
            {"candidates", "c"},        {"topk", "k"},
            {"cluster_size", "m"},      {"mu_signal", "mu"},
            {"mu_noise", "mu_noise"},   {"mu_cluster", "mu_cluster"},
            {"needles", "R"},           {"goal", "goal"},
            {"key_correlation", "rho"}, {"key_conv", "W"},
            {"key_conv_tap", "tap"},    {"key_conv_activation", "activation"}};
}

std::vector<ShownColumn> theory_answers() {
    return {{"snr", "snr"},
            {"reliable_snr", "reliable_snr"},
            {"pairwise_miss", "pairwise_miss"},
            {"hit_probability", "hit"},
            {"miss_probability", "miss"}};
}

std::string json_of_run(const Table& table, std::uint64_t seed, const std::map<std::string, std::string>& rename) {
    Table with_seed = table;
    with_seed.columns.push_back(
        {"seed", "", "", std::vector<std::int64_t>(table.rows(), static_cast<std::int64_t>(seed))});
    return json_table(with_seed, rename);
}

}  // namespace mobalab::experiments
