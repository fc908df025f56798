#pragma once

#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "experiments/results/column_builder.h"
#include "experiments/trained/arm.h"
#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

/// The columns that say whose a row is: run, arm and what the arm is made of. `run_of` gives the run of a row.
template <typename Row, typename RunOf>
std::vector<Column> run_columns(const std::vector<Row>& rows, RunOf run_of) {
    const auto column = [&](const char* name, const char* long_name, auto get) {
        return make_column(rows, name, long_name, [&](const Row& row) { return get(run_of(row)); });
    };
    using Run = const TrainedRun&;
    return {
        column("run", "trained model", [](Run run) { return run.name; }),
        column("experiment", "what it was trained for", [](Run run) { return run.experiment; }),
        column("arm", "attention and head width in words, without the seed", [](Run run) { return arm_of(run); }),
        column("attention", "attention of every second layer: dense, moba, or local (the sliding window of the others)",
               [](Run run) { return run.attention; }),
        column("block_size", "keys of a block; 0: none", [](Run run) { return run.block_size; }),
        column("topk", "blocks a query attends to, its own included; 0: does not route",
               [](Run run) { return run.topk; }),
        column("scorer", "how a query scores a block; none: does not route",
               [](Run run) { return run.scorer.empty() ? std::string("none") : run.scorer; }),
        column("key_conv", "width of the key convolution; 0: none", [](Run run) { return run.key_conv; }),
        column("head_dim", "channels of a query and a key", [](Run run) { return run.head_dim; }),
        column("seed", "seed of the training", [](Run run) { return run.seed; }),
        column("trained_len", "longest length trained on, in tokens; a run that did not learn ended before the others",
               [](Run run) { return run.seq_len; }),
    };
}

inline constexpr const char* variant_column = "what was changed for this evaluation, or \"as trained\"";

inline std::string variant_text(const std::string& variant) {
    return variant.empty() ? "as trained" : variant;
}

inline void append_columns(std::vector<Column>& columns, std::vector<Column> more) {
    std::move(more.begin(), more.end(), std::back_inserter(columns));
}

}  // namespace mobalab::experiments
