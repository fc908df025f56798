#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "analysis/hit_problem.h"
#include "sim/samplers/sampler.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim {
namespace {

/// Block scores drawn from their law, in units of the noise blocks' standard deviation around mu_noise (sphere:
/// 1/sqrt(d B); normal models: analysis/hit_problem.h):
/// number 0 of a trial's stream gives the signal block, number b + 1 noise block b. Normal models: numbers are the
/// stream's normals, the signal block is shift + ratio z[0]. Sphere: numbers are its words, through the inverse
/// distribution functions of sim/tables/score_table.h.
class BlockSampler final : public Sampler {
public:
    explicit BlockSampler(const SamplerInput& input)
        : key_(input.key), loops_(*input.loops), candidates_(input.point.candidates) {
        const analysis::RoutingPoint& point = input.point;
        const analysis::NormalSignal signal = analysis::normal_signal(point);
        shift_ = signal.mean;
        if (analysis::definition_of(point.model).sphere_affinities) {
            tables_ = block_score_tables(point);
        } else {
            ratio_ = signal.sd;
        }
    }

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial));
        }
    }

    double trial_cost() const override { return static_cast<double>(candidates_) + 32.0; }

private:
    static constexpr std::size_t kBuffer = 2048;

    /// The largest float not above x: for floats z, z > x and z > float_below(x) are the same question.
    static float float_below(double x) {
        const auto nearest = static_cast<float>(x);
        return static_cast<double>(nearest) > x ? std::nextafter(nearest, -INFINITY) : nearest;
    }

    /// `count` scores from number `first` on; room for whole tiles.
    void fill(float* scores, std::size_t count, std::uint64_t trial, std::uint64_t first) const {
        if (tables_) {
            const std::size_t whole_tiles = (count + kScoreTile - 1) / kScoreTile * kScoreTile;
            loops_.fill_scores(scores, whole_tiles, key_, trial, first / 4, tables_->noise);
        } else {
            loops_.fill_gaussian(scores, count, key_, trial, first / 4);
        }
    }

    double signal_score(std::uint64_t trial, float number) const {
        const float random = tables_ ? table_score(tables_->signal, philox_block(key_, trial, 0)[0]) : number;
        return shift_ + ratio_ * static_cast<double>(random);
    }

    std::uint64_t rank(std::uint64_t trial) const {
        std::array<float, kBuffer> z;
        const auto numbers = static_cast<std::size_t>(candidates_);
        double signal = 0.0;
        std::uint64_t above = 0;
        for (std::size_t begin = 0; begin < numbers; begin += kBuffer) {
            const std::size_t count = std::min(kBuffer, numbers - begin);
            fill(z.data(), count, trial, begin);
            if (begin == 0) {
                signal = signal_score(trial, z[0]);
                z[0] = -INFINITY;  // the signal block does not beat itself
            }
            const float bound = float_below(signal);
            const AboveEqual found = loops_.compare_scores(z.data(), count, bound);
            above += found.above;
            if (found.equal > 0 && static_cast<double>(bound) == signal) {
                above += ties_won(std::span(z).first(count), bound, begin, trial);
            }
        }
        return above;
    }

    /// Noise blocks among z (numbers begin, begin + 1, ... of the trial) that tie at `score` with a higher block index.
    std::uint64_t ties_won(std::span<const float> z, float score, std::size_t begin, std::uint64_t trial) const {
        const std::uint64_t signal_index = signal_block_index(key_, trial, candidates_);
        std::uint64_t won = 0;
        for (std::size_t i = 0; i < z.size(); ++i) {
            won += z[i] == score && begin + i > signal_index ? 1U : 0U;
        }
        return won;
    }

    PhiloxKey key_;
    const HotLoops& loops_;
    std::int64_t candidates_;
    double shift_ = 0.0;
    double ratio_ = 1.0;
    std::optional<BlockScoreTables> tables_;
};

}  // namespace

std::unique_ptr<Sampler> make_block_sampler(const SamplerInput& input) {
    if (analysis::definition_of(input.point.scorer.kind).parts == 0) {
        return make_random_sampler(input);
    }
    check_draws(input.point, static_cast<double>(input.point.candidates) / 4);
    if (input.point.needles > 1) {
        return make_needle_block_sampler(input);
    }
    return std::make_unique<BlockSampler>(input);
}

}  // namespace mobalab::sim
