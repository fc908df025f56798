#include <algorithm>
#include <map>
#include <optional>

#include "experiments/base/build_info.h"
#include "experiments/base/parallel_for.h"
#include "experiments/measure/block_scores.h"
#include "experiments/measure/group_selections.h"
#include "experiments/measure/head_meter.h"
#include "experiments/measure/kernel_head.h"
#include "experiments/measure/score_rows.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t rows_a_window = 128;
constexpr std::int64_t distant_tokens = 1025;  // from a row back to its latest distant key

/// A head that is being measured.
class Measurement {
public:
    Measurement(const HeadTensors& head, std::span<const RouteSetting> settings, std::uint64_t seed, int threads)
        : head_(head), settings_(settings), threads_(threads), kernel_(head, seed, threads) {
        const std::vector<float> q = head.q.to_float();
        const std::vector<float> k = head.k.to_float();
        q_ = Eigen::Map<const FloatRows>(q.data(), head.q.rows, head.q.head_dim);
        k_ = Eigen::Map<const FloatRows>(k.data(), head.k.rows, head.k.head_dim);
        for (ScoredGroup& group : grouped(settings)) {
            work_.push_back(select_blocks(std::move(group), head, kernel_));
        }
        make_room();
    }

    HeadOutcomes run() {
        const std::int64_t windows = (head_.q.rows + rows_a_window - 1) / rows_a_window;
        std::vector<std::vector<DistanceSums>> distances(static_cast<std::size_t>(windows));
        parallel_for(static_cast<std::size_t>(windows), thread_count(threads_), [&](std::size_t i) {
            distances[i] = measure_window(static_cast<std::int64_t>(i) * rows_a_window);
        });
        for (const std::vector<DistanceSums>& of_window : distances) {  // in order: sums have one value
            for (std::size_t g = 0; g < work_.size(); ++g) {
                if (work_[g].group.router->scored) {
                    add_distances(of_window[g], outcomes_.scores.at(work_[g].group.score).distances);
                }
            }
        }
        for (const GroupSelections& work : work_) {
            finish(work);
        }
        return std::move(outcomes_);
    }

private:
    void make_room() {
        const auto rows = static_cast<std::size_t>(head_.q.rows);
        outcomes_.rows = head_.q.rows;
        outcomes_.q_start = head_.q_start;
        outcomes_.distant_key.resize(rows);
        outcomes_.settings.resize(settings_.size());
        for (const RouteSetting& setting : settings_) {
            const std::vector<float> zeros(rows);
            outcomes_.blocks[setting.score.block_size] = {zeros, zeros, zeros, zeros, std::vector<std::int32_t>(rows)};
        }
        for (const GroupSelections& work : work_) {
            if (work.group.router->scored) {
                outcomes_.scores[work.group.score] = empty_score_outcomes(head_.q.rows);
            }
        }
        for (RowOutcomes& outcome : outcomes_.settings) {
            outcome.routed_mass.resize(rows);
            outcome.routed_mass_no0.resize(rows);
        }
    }

    /// Distances of each group.
    std::vector<DistanceSums> measure_window(std::int64_t first) {
        const std::int64_t rows = std::min(rows_a_window, head_.q.rows - first);
        const RowWindow window{
            .q = q_.middleRows(first, rows), .k = k_, .first_position = head_.q_start + first, .scale = head_.scale};
        std::map<std::int64_t, UnitSums> passes;  // by unit
        std::vector<DistanceSums> distances(work_.size());
        for (auto& [block_size, outcome] : outcomes_.blocks) {
            const std::int64_t unit = unit_of(block_size);
            if (!passes.contains(unit)) {
                passes.emplace(unit, sum_units(window, unit));
            }
            const BlockSums blocks(passes.at(unit), window.first_position, block_size);
            blocks.store(outcome, first);
            for (std::size_t g = 0; g < work_.size(); ++g) {
                if (work_[g].group.score.block_size == block_size) {
                    measure_group(window, blocks, first, work_[g], distances[g]);
                }
            }
        }
        if (!passes.empty()) {
            const auto distant = highest_keys(window, passes.begin()->second, distant_tokens);
            std::copy(distant.begin(), distant.end(), outcomes_.distant_key.begin() + first);
        }
        return distances;
    }

    void measure_group(const RowWindow& window, const BlockSums& blocks, std::int64_t first, GroupSelections& work,
                       DistanceSums& distances) {
        const Router& router = *work.group.router;
        if (router.scored || router.score != nullptr) {
            const std::vector<double> scores = BlockScores(router, work.group.score, work.summaries).of(window, blocks);
            const auto most = static_cast<std::size_t>(blocks.candidates(blocks.rows() - 1));
            for (std::int64_t r = 0; r < blocks.rows(); ++r) {
                const auto of_row = std::span(scores).subspan(static_cast<std::size_t>(r) * most,
                                                              static_cast<std::size_t>(blocks.candidates(r)));
                if (router.score != nullptr) {
                    rank(of_row, static_cast<std::size_t>(first + r), work);
                }
                if (router.scored) {
                    const std::int32_t needle = blocks.needle_key(r);
                    add_score_row(of_row, blocks.mass(r), needle < 0 ? -1 : needle / blocks.block_size(),
                                  static_cast<std::size_t>(first + r), outcomes_.scores.at(work.group.score),
                                  distances);
                }
            }
        }
        for (std::size_t i = 0; i < work.group.routed.size(); ++i) {
            for (const std::size_t setting : work.group.routed[i].settings) {
                add_masses(blocks, first, work.selections[i], settings_[setting].topk, outcomes_.settings[setting]);
            }
        }
    }

    static void rank(std::span<const double> scores, std::size_t row, GroupSelections& work) {
        for (std::size_t i = 0; i < work.group.routed.size(); ++i) {
            Selection& selection = work.selections[i];
            const auto slots = static_cast<std::size_t>(selection.slots);
            rank_blocks(scores, work.group.routed[i].keep_first,
                        std::span(selection.blocks).subspan(row * slots, slots),
                        std::span(selection.scores).subspan(row * slots, slots));
        }
    }

    static void add_masses(const BlockSums& blocks, std::int64_t first, const Selection& selection, std::int64_t topk,
                           RowOutcomes& outcome) {
        const std::int64_t slots = std::min(topk - 1, selection.slots);
        for (std::int64_t r = 0; r < blocks.rows(); ++r) {
            const auto row = static_cast<std::size_t>(first + r);
            const std::span<const double> mass = blocks.mass(r);
            double routed = 0.0;
            double routed_no0 = 0.0;
            for (const std::int32_t block : kept(selection, row, slots)) {
                if (block >= 0) {
                    routed += mass[static_cast<std::size_t>(block)];
                    routed_no0 += block == 0 ? blocks.first_no0(r) : mass[static_cast<std::size_t>(block)];
                }
            }
            outcome.routed_mass[row] = static_cast<float>(routed);
            outcome.routed_mass_no0[row] = static_cast<float>(routed_no0);
        }
    }

    /// What needs whole selections.
    void finish(const GroupSelections& work) {
        for (std::size_t i = 0; i < work.group.routed.size(); ++i) {
            for (const std::size_t setting : work.group.routed[i].settings) {
                RowOutcomes& outcome = outcomes_.settings[setting];
                copy_selection(work.selections[i], settings_[setting].topk, outcome);
                if (work.group.router->scored) {
                    add_margins(work, i, outcome);
                }
                if (!work.unrounded.empty()) {
                    add_rounding(work.selections[i], work.unrounded[i], outcome);
                }
                if (head_.v.rows > 0) {
                    add_output_error(settings_[setting], work.selections[i], outcome);
                }
            }
        }
    }

    void copy_selection(const Selection& selection, std::int64_t topk, RowOutcomes& outcome) const {
        outcome.slots = std::min(topk - 1, selection.slots);
        for (std::size_t row = 0; row < static_cast<std::size_t>(head_.q.rows); ++row) {
            const auto blocks = kept(selection, row, outcome.slots);
            outcome.selection.insert(outcome.selection.end(), blocks.begin(), blocks.end());
        }
    }

    void add_margins(const GroupSelections& work, std::size_t i, RowOutcomes& outcome) const {
        const std::vector<float>& deviation = outcomes_.scores.at(work.group.score).deviation;
        outcome.margin.resize(deviation.size());
        for (std::size_t row = 0; row < deviation.size(); ++row) {
            outcome.margin[row] =
                margin_of(work.selections[i], row, outcome.slots, work.group.routed[i].keep_first, deviation[row]);
        }
    }

    void add_rounding(const Selection& selection, const Selection& unrounded, RowOutcomes& outcome) const {
        outcome.rounding_changed.resize(static_cast<std::size_t>(head_.q.rows));
        for (std::size_t row = 0; row < outcome.rounding_changed.size(); ++row) {
            const bool same = same_set(kept(selection, row, outcome.slots), kept(unrounded, row, outcome.slots));
            outcome.rounding_changed[row] = same ? 0 : 1;
        }
    }

    void add_output_error(const RouteSetting& setting, const Selection& selection, RowOutcomes& outcome) {
        if (!dense_) {
            dense_ = kernel_.attend_all();
            for (std::int64_t row = 0; row < head_.q.rows; ++row) {
                outcomes_.dense_norm.push_back(dense_->row(row).squaredNorm());
            }
        }
        const FloatRows out = kernel_.attend(setting.score.block_size, setting.topk, selection);
        for (std::int64_t row = 0; row < head_.q.rows; ++row) {
            outcome.output_error.push_back((out.row(row) - dense_->row(row)).squaredNorm());
        }
    }

    const HeadTensors& head_;
    std::span<const RouteSetting> settings_;
    int threads_;
    KernelHead kernel_;
    FloatRows q_, k_;
    std::vector<GroupSelections> work_;
    std::optional<FloatRows> dense_;
    HeadOutcomes outcomes_;
};

class CpuHeadMeter : public HeadMeter {
public:
    explicit CpuHeadMeter(int threads) : threads_(threads) {}
    std::string device() const override { return "cpu"; }
    std::string processor() const override { return cpu_name(); }
    std::int64_t rows_a_call() const override { return 4096; }
    std::string trouble(std::span<const RouteSetting>, kernels::DataType, std::int64_t) const override { return ""; }

    HeadOutcomes measure(const HeadTensors& head, std::span<const RouteSetting> settings, std::uint64_t seed) override {
        return Measurement(head, settings, seed, threads_).run();
    }

private:
    int threads_;
};

}  // namespace

std::unique_ptr<HeadMeter> cpu_head_meter(int threads) {
    return std::make_unique<CpuHeadMeter>(threads);
}

}  // namespace mobalab::experiments
