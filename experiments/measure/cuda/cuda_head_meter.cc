#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>

#include "experiments/measure/cuda/output_errors.h"
#include "experiments/measure/cuda/window_pass.h"
#include "experiments/measure/head_meter.h"

namespace mobalab::experiments {
namespace {

using cuda::DeviceHead;
using cuda::GroupWork;
using cuda::OutputErrors;
using cuda::RoutedWork;
using cuda::SettingColumns;
using cuda::WindowPass;

/// Rows with an entry at b = t / B have one candidate at each distance 1 ... b.
std::vector<std::int64_t> distance_counts(const std::vector<float>& deviation, std::int64_t q_start,
                                          std::int64_t block_size) {
    std::vector<std::int64_t> counts;
    for (std::size_t row = 0; row < deviation.size(); ++row) {
        if (std::isnan(deviation[row])) {
            continue;
        }
        const auto candidates = static_cast<std::size_t>((q_start + static_cast<std::int64_t>(row)) / block_size);
        counts.resize(std::max(counts.size(), candidates + 1));
        ++counts[candidates];
    }
    for (std::size_t distance = counts.size(); distance-- > 1;) {
        counts[distance - 1] += counts[distance];
    }
    if (!counts.empty()) {
        counts[0] = 0;
    }
    return counts;
}

ScoreOutcomes scores_of(const GroupWork& group, std::int64_t q_start) {
    ScoreOutcomes outcomes{.deviation = group.deviation.download(),
                           .needle_score = group.needle_score.download(),
                           .mass_score = group.mass_score.download(),
                           .mass_score_squared = group.mass_score_squared.download(),
                           .distances = {}};
    outcomes.distances.count = distance_counts(outcomes.deviation, q_start, group.score.block_size);
    outcomes.distances.sum = group.distance_sums.download();
    outcomes.distances.sum.resize(outcomes.distances.count.size());
    return outcomes;
}

/// The first `kept` of the `slots` integers of every row.
std::vector<std::int32_t> first_slots(const std::vector<std::int32_t>& selection, std::size_t rows, std::size_t slots,
                                      std::size_t kept) {
    if (kept == slots) {
        return selection;
    }
    std::vector<std::int32_t> first(rows * kept);
    for (std::size_t row = 0; row < rows; ++row) {
        std::copy_n(selection.data() + row * slots, kept, first.data() + row * kept);
    }
    return first;
}

void collect(const GroupWork& group, std::size_t rows, const OutputErrors* errors, std::vector<RowOutcomes>& outcomes) {
    for (const RoutedWork& routed : group.routed) {
        const std::vector<std::int32_t> selection = routed.selection.download();
        for (const SettingColumns& setting : routed.settings) {
            RowOutcomes& outcome = outcomes[setting.setting];
            outcome.slots = setting.slots;
            outcome.selection = first_slots(selection, rows, static_cast<std::size_t>(routed.slots),
                                            static_cast<std::size_t>(setting.slots));
            outcome.routed_mass = setting.routed_mass.download();
            outcome.routed_mass_no0 = setting.routed_mass_no0.download();
            if (group.router->scored) {
                outcome.margin = setting.margin.download();
            }
            if (group.rounded) {
                outcome.rounding_changed = group.means ? setting.differ.download() : std::vector<std::int8_t>(rows);
            }
            if (errors != nullptr) {
                outcome.output_error = errors->of(group, routed, setting).download();
            }
        }
    }
}

HeadOutcomes measure_head(const HeadTensors& tensors, std::span<const RouteSetting> settings, std::uint64_t seed,
                          cudaStream_t stream) {
    const DeviceHead head(tensors, seed, stream);
    std::vector<GroupWork> groups;
    for (const ScoredGroup& group : grouped(settings)) {
        groups.emplace_back(group, settings, head, stream);
    }
    WindowPass pass(head, settings, groups, stream);
    pass.run();
    std::optional<OutputErrors> errors;
    if (tensors.v.rows > 0) {
        errors.emplace(head, pass.lse_log2.get(), stream);
    }
    HeadOutcomes outcomes;
    outcomes.rows = tensors.q.rows;
    outcomes.q_start = tensors.q_start;
    outcomes.distant_key = pass.distant_key.download();
    if (errors) {
        outcomes.dense_norm = errors->dense_norm().download();
    }
    for (const auto& [block_size, columns] : pass.blocks) {
        outcomes.blocks[block_size] = {.past_mass = columns.past_mass.download(),
                                       .past_mass_no0 = columns.past_mass_no0.download(),
                                       .first_mass = columns.first_mass.download(),
                                       .first_mass_no0 = columns.first_mass_no0.download(),
                                       .needle_key = columns.needle_key.download()};
    }
    outcomes.settings.resize(settings.size());
    for (const GroupWork& group : groups) {
        if (group.router->scored) {
            outcomes.scores[group.score] = scores_of(group, tensors.q_start);
        }
        collect(group, static_cast<std::size_t>(tensors.q.rows), errors ? &*errors : nullptr, outcomes.settings);
    }
    return outcomes;
}

/// Memory that streams have given back stays with the process: the next head needs as much.
void keep_memory(int device) {
    cudaMemPool_t pool{};
    check_cuda(cudaDeviceGetDefaultMemPool(&pool, device), "memory pool");
    std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
    check_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "memory pool");
}

class CudaHeadMeter : public HeadMeter {
public:
    CudaHeadMeter() {
        check(kernels::backend_available(kernels::Backend::cuda));
        check_cuda(cudaGetDevice(&device_), "current device");
        keep_memory(device_);
        stream_.emplace();
    }

    std::string device() const override { return "cuda"; }
    std::string processor() const override { return device_name(device_); }
    std::int64_t rows_a_call() const override { return 65536; }

    std::string trouble(std::span<const RouteSetting> settings, kernels::DataType dtype,
                        std::int64_t head_dim) const override {
        for (const RouteSetting& setting : settings) {
            if (std::string why = trouble_of(setting, dtype, head_dim); !why.empty()) {
                return why;
            }
        }
        return "";
    }

    HeadOutcomes measure(const HeadTensors& head, std::span<const RouteSetting> settings, std::uint64_t seed) override {
        if (const std::string why = trouble(settings, head.q.dtype, head.q.head_dim); !why.empty()) {
            throw KernelError(why);
        }
        check_cuda(cudaSetDevice(device_), "choosing the device");  // a thread starts with device 0
        return measure_head(head, settings, seed, stream_->get());
    }

private:
    /// Of a text that has more blocks than the setting keeps.
    static std::string trouble_of(const RouteSetting& setting, kernels::DataType dtype, std::int64_t head_dim) {
        const Router* router = find_router(setting.score.router);
        if (router == nullptr || cuda::reference_of(*router) == cuda::Reference::not_there) {
            return "router " + setting.score.router + ": backend cuda has none of that name; nearest valid choice: cpu";
        }
        kernels::Problem problem;
        problem.head_dim = head_dim;
        problem.dtype = dtype;
        problem.block_size = setting.score.block_size;
        problem.topk = setting.topk;
        problem.keep_first = setting.keep_first;
        problem.seqlen_q = 1;
        problem.seqlen_k =
            (std::max<std::int64_t>(setting.topk, 1) + 1) * std::max<std::int64_t>(problem.block_size, 1);
        if (router->scorer) {
            problem.centroids = setting.score.centroids;
            problem.scorer = {.kind = *router->scorer, .sub_blocks = setting.score.sub_blocks};
        }
        // First, as the kernels take more and would name choices that are refused here.
        if (std::string why = not_one_of("head_dim", head_dim, measured_head_dims); !why.empty()) {
            return why;
        }
        if (std::string why = not_one_of("block_size", setting.score.block_size, measured_block_sizes); !why.empty()) {
            return why;
        }
        if (setting.topk > most_measured_topk) {
            return fmt::format("topk = {}: backend cuda measures at most {}; nearest valid choice: {}", setting.topk,
                               most_measured_topk, most_measured_topk);
        }
        // Attention has the limits that reference routers share with the kernels.
        for (const kernels::Operation operation : {kernels::Operation::route, kernels::Operation::attention_forward}) {
            if (const kernels::Status status = kernels::supported(operation, problem, kernels::Backend::cuda);
                !status.ok()) {
                return status.message;
            }
        }
        return "";
    }

    /// The passes of this room are made for fewer shapes than the kernels.
    static constexpr std::array<std::int64_t, 5> measured_head_dims = {32, 64, 96, 128, 256};
    static constexpr std::array<std::int64_t, 6> measured_block_sizes = {16, 32, 64, 128, 256, 512};
    static constexpr std::int64_t most_measured_topk = 64;  // slots of a row that its outcomes are found of

    template <std::size_t Count>
    static std::string not_one_of(const char* name, std::int64_t value, const std::array<std::int64_t, Count>& valid) {
        if (std::ranges::find(valid, value) != valid.end()) {
            return "";
        }
        const std::int64_t nearest =
            *std::ranges::min_element(valid, {}, [&](std::int64_t x) { return std::abs(x - value); });
        return fmt::format("{} = {}: measuring on cuda takes {}; nearest valid choice: {}", name, value,
                           fmt::join(valid, ", "), nearest);
    }

    int device_ = 0;
    std::optional<CudaStream> stream_;
};

}  // namespace

std::unique_ptr<HeadMeter> cuda_head_meter() {
    return std::make_unique<CudaHeadMeter>();
}

}  // namespace mobalab::experiments
