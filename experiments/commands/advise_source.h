#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/advise/advice.h"
#include "experiments/cli/subcommand.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// What an advice rests on, from a results file of `measure`, from traces that are measured first, or from theory.
struct AdviseSource {
    Evidence evidence;
    std::optional<Table> measured = {};  ///< table `measure`, where traces were measured
    std::string device;                  ///< that computed it
};

/// --file --block-size --topk --scorer --keep-first; of a results file --trace; of traces --layer --head --rows
/// --device
/// --threads; of theory --head-dim --model --profile --mu-signal --cluster-size --mu-cluster.
std::vector<Flag> advise_source_flags();

/// Throws analysis::InputError, FileError and what a measurement throws. A flag that is about another kind of source is
/// an error.
AdviseSource advise_source(const Arguments& arguments, const Budget& budget, Terminal& terminal);

/// Most tokens that any of the command's numbers may be.
inline constexpr std::int64_t most_advised_tokens = std::int64_t{1} << 30U;

}  // namespace mobalab::experiments
