#include <algorithm>
#include <cstdint>
#include <vector>

#include "sim/samplers/sampler.h"

namespace mobalab::sim {
namespace {

/// floor(u bound / 2^64) of the 64 bits u = high, low; bound < 2^32. Uniform in [0, bound) but for bound / 2^64.
std::uint64_t below(std::uint32_t high, std::uint32_t low, std::uint64_t bound) {
    return (high * bound + ((low * bound) >> 32U)) >> 32U;
}

/// A scorer that looks at nothing orders the blocks at random: the ranks of the R needles are R different numbers of
/// [0, c), every choice and order of them equally likely. Words 0 and 1 of draw i give needle i's, uniform among those
/// the needles before it have left.
class RandomSampler final : public Sampler {
public:
    explicit RandomSampler(const SamplerInput& input) : input_(input) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        std::vector<std::uint64_t> taken;  // ascending
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, taken));
        }
    }

    double trial_cost() const override { return 32.0 * static_cast<double>(input_.point.needles); }

private:
    std::uint64_t rank(std::uint64_t trial, std::vector<std::uint64_t>& taken) const {
        taken.clear();
        std::uint64_t first = 0;
        for (std::int64_t needle = 0; needle < input_.point.needles; ++needle) {
            const auto draw = static_cast<std::uint64_t>(needle);
            const auto words = philox_block(input_.key, trial, draw);
            std::uint64_t rank = below(words[0], words[1], static_cast<std::uint64_t>(input_.point.candidates) - draw);
            auto at = taken.begin();
            for (; at != taken.end() && *at <= rank; ++at) {
                ++rank;  // the number-th of those that are left
            }
            taken.insert(at, rank);
            first = needle == 0 ? rank : first;
        }
        switch (input_.point.goal) {
            case analysis::Goal::any:
                return taken.front();
            case analysis::Goal::all:
                return taken.back();
            case analysis::Goal::each:
                break;
        }
        return first;
    }

    SamplerInput input_;
};

}  // namespace

std::unique_ptr<Sampler> make_random_sampler(const SamplerInput& input) {
    return std::make_unique<RandomSampler>(input);
}

}  // namespace mobalab::sim
