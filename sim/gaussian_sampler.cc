#include <array>
#include <cmath>

#include "sim/gaussian.h"
#include "sim/sampler.h"

namespace mobalab::sim {
namespace {

/// Block scores from the normal models, in units of the noise blocks' standard deviation 1/sqrt(d B) around mu_noise:
/// the signal block is shift + ratio * z[0], noise block b (b = 0, 1, ...) is z[b + 1], z the trial's stream of
/// normals.
class GaussianSampler final : public Sampler {
public:
    GaussianSampler(const analysis::RoutingPoint& point, PhiloxKey key) : key_(key), candidates_(point.candidates) {
        const auto head_dim = static_cast<double>(point.head_dim);
        const auto block_size = static_cast<double>(point.block_size);
        shift_ = point.delta_mu_eff() * std::sqrt(head_dim / block_size);
        // gaussian-fixed: the m signal affinities do not vary, r^2 = 1 - m / B.
        const auto random_keys = static_cast<double>(point.block_size - point.cluster_size);
        ratio_ = point.model == analysis::Model::gaussian_fixed ? std::sqrt(random_keys / block_size) : 1.0;
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

    std::uint64_t rank(std::uint64_t trial) const {
        std::array<float, kBuffer> z;
        const auto numbers = static_cast<std::size_t>(candidates_);
        double signal = 0.0;
        std::uint64_t above = 0;
        for (std::size_t begin = 0; begin < numbers; begin += kBuffer) {
            const std::size_t count = std::min(kBuffer, numbers - begin);
            fill_gaussian(std::span(z).first(count), key_, trial, begin / 4);
            if (begin == 0) {
                signal = shift_ + ratio_ * static_cast<double>(z[0]);
                z[0] = -INFINITY;  // the signal block does not beat itself
            }
            const float bound = float_below(signal);
            std::uint32_t higher = 0;
            std::uint32_t equal = 0;
            for (std::size_t i = 0; i < count; ++i) {
                higher += z[i] > bound ? 1U : 0U;
                equal += z[i] == bound ? 1U : 0U;
            }
            above += higher;
            if (equal > 0 && static_cast<double>(bound) == signal) {
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
    std::int64_t candidates_;
    double shift_ = 0.0;
    double ratio_ = 1.0;
};

}  // namespace

std::unique_ptr<Sampler> make_gaussian_sampler(const analysis::RoutingPoint& point, PhiloxKey key) {
    check_draws(point, static_cast<double>(point.candidates) / 4);
    return std::make_unique<GaussianSampler>(point, key);
}

}  // namespace mobalab::sim
