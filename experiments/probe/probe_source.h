#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "analysis/hit_probability.h"
#include "experiments/probe/kernel_under_test.h"
#include "experiments/probe/probe_plan.h"

namespace mobalab::experiments {

/// The probes of one kind on one key set after routing, in the order of the rows of the chunks.
struct RoutedProbes {
    std::vector<std::int64_t> targets;    ///< the block each of them looks for
    std::vector<std::uint8_t> kept;       ///< 0: the query could not be made; its row is routed and not counted
    std::vector<std::int32_t> selection;  ///< [rows, largest topk of the kind - 1], best first
};

/// Where probes come from: independent sets of keys, queries that each look for one block, and what theory expects of
/// them. Whoever counts (probe_counts.h) knows nothing else. Planted needles are the first source (needle_source.h);
/// another one is a file of its own. Everything is a function of its arguments; thread-safe.
class ProbeSource {
public:
    virtual ~ProbeSource() = default;

    /// Text that is the same where keys, queries and targets are the same, whatever routes them.
    virtual std::string identity() const = 0;

    /// Of every key set, scorer included.
    virtual const ProbeShape& shape() const = 0;
    virtual std::int64_t key_sets() const = 0;

    /// Kinds of query, each of which has a row at every place; one routing call serves all topk's of a kind.
    virtual std::size_t kinds() const = 0;
    virtual const std::vector<std::int64_t>& topks(std::size_t kind) const = 0;

    /// Where the probes of a key set stand.
    virtual std::vector<QueryChunk> chunks(std::int64_t key_set) const = 0;

    /// Its keys inside the kernel. Throws KernelError.
    virtual std::unique_ptr<LoadedKeys> load(const KernelUnderTest& kernel, std::int64_t key_set) const = 0;

    /// Routes the queries of one kind against these keys; `chunks` are those of the key set. Throws KernelError.
    virtual RoutedProbes route(LoadedKeys& keys, std::int64_t key_set, std::size_t kind,
                               const std::vector<QueryChunk>& chunks) const = 0;

    /// What theory expects of a probe with this many candidates; nothing where it knows none.
    virtual std::optional<analysis::HitProbability> expectation(std::size_t kind, std::size_t topk,
                                                                std::int64_t candidates) const = 0;
};

}  // namespace mobalab::experiments
