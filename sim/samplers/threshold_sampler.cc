#include <algorithm>
#include <array>
#include <vector>

#include "sim/samplers/sampler.h"
#include "sim/tables/score_curves.h"

namespace mobalab::sim {
namespace {

/// Given the signal score, noise blocks beat it independently with the same probability p: a trial draws p by the exact
/// law of the signal score and compares a uniform of each block with it (stream: sim/streams/threshold_stream.h).
/// Scores are never drawn, and never tie.
class ThresholdSampler final : public Sampler {
public:
    explicit ThresholdSampler(const SamplerInput& input)
        : key_(input.key),
          loops_(*input.loops),
          noise_blocks_(static_cast<std::uint32_t>(input.point.noise_blocks())),
          table_(noise_above_signal_table(input.point)) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        const std::uint64_t end = first_trial + trials;
        while (first_trial < end) {
            const std::uint64_t same_high_half = (std::uint64_t{1} << 32U) - (first_trial & 0xffffffffU);
            const std::uint64_t run = std::min({end - first_trial, std::uint64_t{kRun}, same_high_half});
            count_run({key_, first_trial, static_cast<std::uint32_t>(run), noise_blocks_}, histogram);
            first_trial += run;
        }
    }

    double trial_cost() const override { return 0.17 * static_cast<double>(noise_blocks_) + 10.0; }

private:
    static constexpr std::uint32_t kRun = 1024;

    void count_run(const TrialRun& run, std::span<std::uint64_t> histogram) const {
        std::array<std::uint64_t, kRun> thresholds;
        std::array<std::uint32_t, kRun> above{};
        std::array<std::uint8_t, kRun> ties{};
        loops_.signal_words(thresholds.data(), run);
        loops_.thresholds_of(thresholds.data(), run.trials, table_.coefficients.data());
        const std::uint32_t draws = (noise_blocks_ + 7) / 8;
        loops_.count_digits(above.data(), ties.data(), thresholds.data(), run, 1, 1 + draws);
        for (std::uint32_t i = 0; i < run.trials; ++i) {
            if (ties[i] != 0) {
                above[i] += ties_above({key_, run.first_trial + i, 1, noise_blocks_}, thresholds[i]);
            }
            count_rank(histogram, above[i]);
        }
    }

    /// Blocks of one trial whose first digit ties and whose further digits are below the threshold's.
    std::uint32_t ties_above(const TrialRun& run, std::uint64_t threshold) const {
        constexpr std::uint64_t kRest = (std::uint64_t{1} << 48U) - 1;
        std::array<std::uint32_t, 2048> blocks;
        std::uint32_t above = 0;
        for (std::uint32_t next = 0; next < noise_blocks_;) {
            const std::size_t found = loops_.tied_blocks(blocks.data(), blocks.size(), &next, run,
                                                         static_cast<std::uint16_t>(threshold >> 48U));
            for (std::size_t i = 0; i < found; ++i) {
                const auto w = philox_block(key_, run.first_trial, kRefineDraw + blocks[i]);
                const std::uint64_t rest = (std::uint64_t{w[0]} << 16U) | (w[1] >> 16U);
                above += rest < (threshold & kRest) ? 1U : 0U;
            }
        }
        return above;
    }

    PhiloxKey key_;
    const HotLoops& loops_;
    std::uint32_t noise_blocks_;
    OctaveTable table_;
};

}  // namespace

std::unique_ptr<Sampler> make_threshold_sampler(const SamplerInput& input) {
    return std::make_unique<ThresholdSampler>(input);
}

}  // namespace mobalab::sim
