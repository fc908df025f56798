#include "experiments/probe/rounding_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "analysis/cluster_interval.h"
#include "experiments/base/interrupt.h"
#include "experiments/device/element_conversion.h"
#include "kernels/kernels.h"
#include "sim/streams/gaussian.h"
#include "sim/streams/philox.h"

namespace mobalab::experiments {
namespace {

using analysis::CentroidFormat;
using analysis::RoutingPoint;

constexpr std::uint64_t identity = 0x726f756e64696e67;  ///< of these streams, beside those of points

/// Whole groups of four, as the streams come.
std::size_t drawn(std::int64_t elements) {
    return static_cast<std::size_t>((elements + 3) / 4 * 4);
}

kernels::Problem problem_of(const RoutingPoint& point, CentroidFormat format) {
    kernels::Problem problem;
    problem.seqlen_k = point.seq_len > 0 ? point.seq_len : (point.candidates + 1) * point.block_size;
    problem.seqlen_q = point.seq_len > 0 ? point.seq_len : point.block_size;
    problem.head_dim = point.head_dim;
    problem.block_size = point.block_size;
    problem.topk = point.topk;
    problem.dtype = format == CentroidFormat::bf16 ? kernels::DataType::bf16 : kernels::DataType::fp16;
    return problem;
}

/// Queries and keys of one key set, in the dtype of the problem.
struct KeySet {
    KeySet(const kernels::Problem& problem, double shared_mean, std::uint64_t seed, std::uint64_t number) {
        const sim::PhiloxKey key = sim::stream_key(seed, identity);
        const std::int64_t d = problem.head_dim;
        std::vector<float> mean(drawn(d));
        sim::fill_gaussian(mean, key, 3 * number);
        std::vector<float> values(drawn(problem.seqlen_k * d));
        sim::fill_gaussian(values, key, 3 * number + 1);
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] += static_cast<float>(shared_mean) * mean[i % static_cast<std::size_t>(d)];
        }
        keys = stored(problem, std::span(values).first(static_cast<std::size_t>(problem.seqlen_k * d)));
        values.resize(drawn(problem.seqlen_q * d));
        sim::fill_gaussian(values, key, 3 * number + 2);
        queries = stored(problem, std::span(values).first(static_cast<std::size_t>(problem.seqlen_q * d)));
    }

    static std::vector<std::byte> stored(const kernels::Problem& problem, std::span<const float> values) {
        std::vector<std::byte> bytes(values.size() * kernels::size_of(problem.dtype));
        store_as(problem.dtype, values, bytes.data());
        return bytes;
    }

    std::vector<std::byte> keys;
    std::vector<std::byte> queries;
};

/// Selections as sets: each row sorted.
std::vector<std::int32_t> routed(kernels::Problem problem, kernels::Centroids centroids, const KeySet& set,
                                 int threads) {
    problem.centroids = centroids;
    const std::int64_t slots = problem.routed();
    std::vector<std::int32_t> selection(static_cast<std::size_t>(problem.tokens_q() * slots));
    const kernels::Status status = kernels::route(problem, {set.queries.data()}, {set.keys.data()}, selection.data(),
                                                  nullptr, {.threads = threads});
    if (!status.ok()) {
        throw analysis::InputError(status.message);
    }
    for (auto row = selection.begin(); slots > 0 && row != selection.end(); row += slots) {
        std::sort(row, row + slots);
    }
    return selection;
}

std::int64_t rows_that_differ(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b,
                              std::int64_t slots) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < a.size(); i += static_cast<std::size_t>(slots)) {
        const auto row = a.begin() + static_cast<std::ptrdiff_t>(i);
        count += std::equal(row, row + slots, b.begin() + static_cast<std::ptrdiff_t>(i)) ? 0 : 1;
    }
    return count;
}

}  // namespace

void require_rounding_fits(const RoutingPoint& point) {
    constexpr std::int64_t most = std::int64_t{1} << 31U;
    const std::int64_t keys = problem_of(point, CentroidFormat::bf16).seqlen_k;
    if (keys > most / point.head_dim) {
        throw analysis::InputError(fmt::format(
            "shared-mean: {} keys of head-dim {} are more than 2^31 elements, which the kernel is not run on; "
            "nearest valid choice: --seq-len {}, or theory instead of validate",
            keys, point.head_dim, most / point.head_dim));
    }
}

analysis::Interval measure_rounding(const RoutingPoint& point, double shared_mean, CentroidFormat format,
                                    std::uint64_t seed, int threads, double confidence) {
    require_rounding_fits(point);
    const kernels::Problem problem = problem_of(point, format);
    std::vector<analysis::ClusterTotal> clusters;
    for (std::uint64_t number = 0; number < rounding_key_sets; ++number) {
        stop_if_interrupted();
        const KeySet set(problem, shared_mean, seed, number);
        const std::int64_t changed = rows_that_differ(routed(problem, kernels::Centroids::input_dtype, set, threads),
                                                      routed(problem, kernels::Centroids::fp32, set, threads),
                                                      std::max<std::int64_t>(problem.routed(), 1));
        clusters.push_back({static_cast<double>(changed), static_cast<double>(problem.tokens_q())});
    }
    return analysis::clustered_share(clusters, 1.0 - confidence);
}

}  // namespace mobalab::experiments
