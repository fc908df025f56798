#include "experiments/shown_columns.h"

namespace mobalab::experiments {

std::vector<ShownColumn> point_parameters() {
    return {{"model", "model"},          {"head_dim", "d"},   {"block_size", "B"},
            {"seq_len", "N", true},      {"candidates", "c"}, {"topk", "k"},
            {"cluster_size", "m"},       {"mu_signal", "mu"}, {"mu_noise", "mu_noise"},
            {"mu_cluster", "mu_cluster"}};
}

std::vector<ShownColumn> theory_answers() {
    return {{"snr", "snr"},
            {"reliable_snr", "reliable_snr"},
            {"pairwise_miss", "pairwise_miss"},
            {"hit_probability", "hit"},
            {"miss_probability", "miss"}};
}

}  // namespace mobalab::experiments
