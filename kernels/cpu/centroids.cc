#include <Eigen/Core>
#include <vector>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sequences.h"

namespace mobalab::kernels::cpu {
namespace {

/// One (block, head) per unit of work; few of them are too little for a thread.
constexpr std::int64_t blocks_per_task = 32;

struct Unit {
    ConstTensor keys;  ///< of its sequence
    std::int64_t first_key, length, output_row;
};

std::vector<Unit> units_of(const Problem& p, ConstTensor k) {
    std::vector<Unit> units;
    for (const Sequence& s : sequences_of(p)) {
        const ConstTensor keys = keys_of(s, k, p.dtype);
        for (std::int64_t block = 0; block < s.blocks; ++block) {
            units.push_back({keys, block * p.block_size, s.block_length(block), s.block_begin + block});
        }
    }
    return units;
}

}  // namespace

/// Sums run in double and in token order: rounding to fp32 once gives the same mean on every machine.
Status compute_centroids(const Problem& p, ConstTensor k, void* centroids, const Execution& execution) {
    const std::int64_t d = p.head_dim;
    const std::vector<Unit> units = units_of(p, k);
    const auto count = static_cast<std::int64_t>(units.size());
    const DataType kept_as = p.centroids == Centroids::fp32 ? DataType::fp32 : p.dtype;
    const Tensor out = {.data = centroids, .stride_token = p.heads_k * d, .stride_head = d};
    const auto work = [&]() -> Task {
        return [&, row = Eigen::ArrayXf(d), sum = Eigen::ArrayXd(d)](std::int64_t task) mutable {
            for (std::int64_t i = task * blocks_per_task; i < std::min(count, (task + 1) * blocks_per_task); ++i) {
                const Unit& unit = units[static_cast<std::size_t>(i)];
                for (std::int64_t head = 0; head < p.heads_k; ++head) {
                    sum.setZero();
                    for (std::int64_t t = 0; t < unit.length; ++t) {
                        read_row(row_address(unit.keys, p.dtype, unit.first_key + t, head), p.dtype, d, row.data());
                        sum += row.cast<double>();
                    }
                    row = (sum / static_cast<double>(unit.length)).cast<float>();
                    write_row(row_address(out, kept_as, unit.output_row, head), kept_as, d, row.data());
                }
            }
        };
    };
    parallel_for_workers((count + blocks_per_task - 1) / blocks_per_task, execution.threads, work);
    return {};
}

}  // namespace mobalab::kernels::cpu
