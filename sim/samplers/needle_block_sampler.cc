#include <optional>
#include <vector>

#include "analysis/hit_problem.h"
#include "sim/samplers/needles.h"
#include "sim/samplers/sampler.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim {
namespace {

/// Block scores drawn from their law as by block_sampler.cc, for several needles: number b of a trial's stream gives
/// stream block b, whose first R are the needles'.
class NeedleBlockSampler final : public Sampler {
public:
    explicit NeedleBlockSampler(const SamplerInput& input)
        : input_(input), signal_(analysis::normal_signal(input.point)) {
        if (analysis::definition_of(input.point.model).sphere_affinities) {
            signal_.sd = 1.0;  // the table has it
            tables_ = block_score_tables(input.point);
        }
    }

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        const auto candidates = static_cast<std::size_t>(input_.point.candidates);
        std::vector<float> scores((candidates + kScoreTile - 1) / kScoreTile * kScoreTile);
        std::vector<double> shifted(candidates);
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            draw(trial, scores);
            shifted.assign(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(candidates));
            for (std::uint64_t needle = 0; needle < static_cast<std::uint64_t>(input_.point.needles); ++needle) {
                shifted[needle] = signal_score(trial, needle, scores[needle]);
            }
            const NeedlePlaces places(input_.point, input_.key, trial);
            count_rank(histogram, goal_rank(std::span<const double>(shifted), input_.point.goal, places));
        }
    }

    double trial_cost() const override {
        return 3.0 * static_cast<double>(input_.point.candidates) + 50.0 * static_cast<double>(input_.point.needles);
    }

private:
    void draw(std::uint64_t trial, std::vector<float>& scores) const {
        if (tables_) {
            input_.loops->fill_scores(scores.data(), scores.size(), input_.key, trial, 0, tables_->noise);
        } else {
            input_.loops->fill_gaussian(scores.data(), scores.size(), input_.key, trial, 0);
        }
    }

    double signal_score(std::uint64_t trial, std::uint64_t needle, float number) const {
        const float random =
            tables_ ? table_score(tables_->signal, philox_block(input_.key, trial, needle / 4)[needle % 4]) : number;
        return signal_.mean + signal_.sd * static_cast<double>(random);
    }

    SamplerInput input_;
    analysis::NormalSignal signal_;
    std::optional<BlockScoreTables> tables_;
};

}  // namespace

std::unique_ptr<Sampler> make_needle_block_sampler(const SamplerInput& input) {
    return std::make_unique<NeedleBlockSampler>(input);
}

}  // namespace mobalab::sim
