#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {
namespace {

/// One (sub-block, head) per unit of work; few of them are too little for a thread.
constexpr std::int64_t units_per_task = 32;

struct Unit {
    ConstTensor keys;  ///< of its sequence
    KeySpan span;
    std::int64_t output_row;
    std::int64_t first_row;  ///< output_row of its sequence's first
};

std::vector<Unit> units_of(const Problem& p, ConstTensor k) {
    const std::int64_t per_block = p.scorer.sub_blocks;
    std::vector<Unit> units;
    for (const Sequence& s : key_sequences_of(p)) {
        const ConstTensor keys = keys_of(s, k, p.dtype);
        for (std::int64_t i = 0; i < s.blocks * per_block; ++i) {
            units.push_back(
                {keys, sub_block_keys(s, per_block, i), s.block_begin * per_block + i, s.block_begin * per_block});
        }
    }
    return units;
}

/// One thread's scratch.
class Summariser {
public:
    explicit Summariser(std::int64_t head_dim) : result(head_dim), row_(head_dim), sum_(head_dim) {}

    /// Puts the summary of one unit and head into `result`.
    void run(const Problem& p, const Unit& unit, std::int64_t head, Summary summary) {
        if (unit.span.count == 0) {
            result.setZero();
            return;
        }
        switch (summary) {
            case Summary::mean:
                return mean(p, unit, head);
            case Summary::maximum:
                // A NaN is taken and never let go: it compares false with everything.
                return extreme(p, unit, head, [](const auto& row, const auto& best) { return row > best; });
            case Summary::minimum:
                return extreme(p, unit, head, [](const auto& row, const auto& best) { return row < best; });
        }
    }

    Eigen::ArrayXf result;

private:
    static void read(const Problem& p, const Unit& unit, std::int64_t i, std::int64_t head, Eigen::ArrayXf& row) {
        read_row(row_address(unit.keys, p.dtype, unit.span.first + i, head), p.dtype, p.head_dim, row.data());
    }

    /// Sums run in double and in token order: rounding to fp32 once gives the same mean on every machine.
    void mean(const Problem& p, const Unit& unit, std::int64_t head) {
        sum_.setZero();
        for (std::int64_t i = 0; i < unit.span.count; ++i) {
            read(p, unit, i, head, row_);
            sum_ += row_.cast<double>();
        }
        result = (sum_ / static_cast<double>(unit.span.count)).cast<float>();
    }

    template <typename Better>
    void extreme(const Problem& p, const Unit& unit, std::int64_t head, const Better& better) {
        read(p, unit, 0, head, result);
        for (std::int64_t i = 1; i < unit.span.count; ++i) {
            read(p, unit, i, head, row_);
            result = (better(row_, result) || row_ != row_).select(row_, result);
        }
    }

    Eigen::ArrayXf row_;
    Eigen::ArrayXd sum_;
};

/// Centroids::centred from fp32 means.
void write_centred(const Problem& p, const std::vector<Unit>& units, const std::vector<float>& means, void* centroids,
                   int threads) {
    const std::int64_t row = p.heads_k * p.head_dim;
    const auto count = static_cast<std::int64_t>(units.size());
    const auto center = [&](std::int64_t task) {
        std::vector<float> rest(static_cast<std::size_t>(row));
        for (std::int64_t i = task * units_per_task; i < std::min(count, (task + 1) * units_per_task); ++i) {
            const Unit& unit = units[static_cast<std::size_t>(i)];
            const float* mean = means.data() + unit.output_row * row;
            const float* reference = means.data() + unit.first_row * row;
            std::transform(mean, mean + row, reference, rest.begin(),
                           [](float x, float of_first) { return std::isfinite(of_first) ? x - of_first : x; });
            write_row(
                static_cast<char*>(centroids) + unit.output_row * row * static_cast<std::int64_t>(size_of(p.dtype)),
                p.dtype, row, rest.data());
        }
    };
    parallel_for((count + units_per_task - 1) / units_per_task, threads, center);
}

}  // namespace

Status compute_centroids(const Problem& p, ConstTensor k, void* centroids, const Execution& execution) {
    const std::int64_t d = p.head_dim;
    const std::vector<Unit> units = units_of(p, k);
    const auto count = static_cast<std::int64_t>(units.size());
    if (p.centroids == Centroids::centred) {
        Problem wide = p;
        wide.centroids = Centroids::fp32;
        std::vector<float> means(static_cast<std::size_t>(p.centroid_elements()));
        if (Status s = cpu::compute_centroids(wide, k, means.data(), execution); !s.ok()) return s;
        write_centred(p, units, means, centroids, execution.threads);
        return {};
    }
    const DataType kept_as = p.centroid_dtype();
    const ScorerDefinition& scorer = *find_scorer(p.scorer.kind);
    const Tensor all_parts = {centroids, p.heads_k * d, scorer.parts * p.heads_k * d, d};
    const auto work = [&]() -> Task {
        return [&, summariser = Summariser(d)](std::int64_t task) mutable {
            for (int part = 0; part < scorer.parts; ++part) {
                const Tensor out = from_token(all_parts, kept_as, part, 0);
                const Summary summary = scorer.part[static_cast<std::size_t>(part)].summary;
                for (std::int64_t i = task * units_per_task; i < std::min(count, (task + 1) * units_per_task); ++i) {
                    const Unit& unit = units[static_cast<std::size_t>(i)];
                    for (std::int64_t head = 0; head < p.heads_k; ++head) {
                        summariser.run(p, unit, head, summary);
                        write_row(row_address(out, kept_as, unit.output_row, head), kept_as, d,
                                  summariser.result.data());
                    }
                }
            }
        };
    };
    parallel_for_workers((count + units_per_task - 1) / units_per_task, execution.threads, work);
    return {};
}

}  // namespace mobalab::kernels::cpu
