#include <array>
#include <cmath>
#include <vector>

#include "sim/gaussian.h"
#include "sim/sampler.h"

namespace mobalab::sim {
namespace {

/// Sums over head_dim go through this many partial sums and then a tree: one fixed order, whatever the vector width.
constexpr std::size_t kPartialSums = 16;

float dot(const float* x, const float* y, std::size_t head_dim) {
    std::array<float, kPartialSums> partial{};
    std::size_t i = 0;
    for (; i + kPartialSums <= head_dim; i += kPartialSums) {
        for (std::size_t j = 0; j < kPartialSums; ++j) {
            partial[j] = std::fma(x[i + j], y[i + j], partial[j]);
        }
    }
    for (std::size_t j = 0; i + j < head_dim; ++j) {
        partial[j] = std::fma(x[i + j], y[i + j], partial[j]);
    }
    for (std::size_t width = kPartialSums / 2; width > 0; width /= 2) {
        for (std::size_t j = 0; j < width; ++j) {
            partial[j] += partial[j + width];
        }
    }
    return partial[0];
}

double dot_in_double(const float* x, const float* y, std::size_t head_dim) {
    double sum = 0.0;
    for (std::size_t i = 0; i < head_dim; ++i) {
        sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    }
    return sum;
}

/// The unit-norm model with real vectors. Row r of a trial is head_dim normals (its draws are [r, r + 1) * ceil(d /
/// 4)); row 0 gives the query, rows 1 .. B the signal block, the first m of them its needle and cluster, and every
/// following B rows a noise block. Keys and centroids are fp32; keys are summed in token order.
class VectorSampler final : public Sampler {
public:
    VectorSampler(const analysis::RoutingPoint& point, PhiloxKey key)
        : point_(point),
          key_(key),
          head_dim_(static_cast<std::size_t>(point.head_dim)),
          row_(4 * ((head_dim_ + 3) / 4)),
          rows_a_batch_(std::max<std::size_t>(1, kBatchFloats / row_)) {}

    void count_ranks(std::uint64_t first_trial, std::uint64_t trials,
                     std::span<std::uint64_t> histogram) const override {
        Scratch scratch{std::vector<float>(row_ * rows_a_batch_), std::vector<float>(row_), std::vector<float>(row_)};
        for (std::uint64_t trial = first_trial; trial < first_trial + trials; ++trial) {
            count_rank(histogram, rank(trial, scratch));
        }
    }

    double trial_cost() const override {
        return 1.5 * static_cast<double>(point_.candidates) * static_cast<double>(point_.block_size * point_.head_dim);
    }

private:
    static constexpr std::size_t kBatchFloats = 4096;  // 16 KiB: stays in the first cache

    struct Scratch {
        std::vector<float> rows;
        std::vector<float> query;
        std::vector<float> centroid;
    };

    void fill_rows(std::span<float> rows, std::uint64_t trial, std::uint64_t first_row) const {
        fill_gaussian(rows, key_, trial, first_row * (row_ / 4));
    }

    std::uint64_t rank(std::uint64_t trial, Scratch& scratch) const {
        make_query(trial, scratch);
        float signal = 0.0F;
        std::uint64_t above = 0;
        for (std::int64_t block = 0; block < point_.candidates; ++block) {
            const float score = block_score(trial, block, scratch);
            if (block == 0) {
                signal = score;
            } else if (score >= signal) {
                const auto index = static_cast<std::uint64_t>(block);
                above += score > signal || index > signal_block_index(key_, trial, point_.candidates) ? 1U : 0U;
            }
        }
        return above;
    }

    void make_query(std::uint64_t trial, Scratch& scratch) const {
        fill_rows(scratch.query, trial, 0);
        const double scale = 1.0 / std::sqrt(dot_in_double(scratch.query.data(), scratch.query.data(), head_dim_));
        for (float& x : scratch.query) {
            x = static_cast<float>(static_cast<double>(x) * scale);
        }
    }

    /// q . (mean of the block's keys).
    float block_score(std::uint64_t trial, std::int64_t block, Scratch& scratch) const {
        std::fill(scratch.centroid.begin(), scratch.centroid.end(), 0.0F);
        for (std::int64_t done = 0; done < point_.block_size;) {
            const auto count = std::min(rows_a_batch_, static_cast<std::size_t>(point_.block_size - done));
            const auto rows = std::span(scratch.rows).first(count * row_);
            fill_rows(rows, trial, static_cast<std::uint64_t>(1 + block * point_.block_size + done));
            for (std::size_t r = 0; r < count; ++r, ++done) {
                float* key = rows.data() + r * row_;
                if (block == 0 && done < point_.cluster_size) {
                    turn_towards_query(key, scratch.query.data(), done == 0 ? point_.mu_signal : point_.mu_cluster);
                    add_scaled(scratch.centroid, key, 1.0F);
                } else {
                    add_scaled(scratch.centroid, key, 1.0F / std::sqrt(dot(key, key, head_dim_)));
                }
            }
        }
        const float scale = 1.0F / static_cast<float>(point_.block_size);
        for (float& x : scratch.centroid) {
            x *= scale;
        }
        return dot(scratch.query.data(), scratch.centroid.data(), head_dim_);
    }

    void add_scaled(std::vector<float>& sum, const float* key, float scale) const {
        for (std::size_t i = 0; i < head_dim_; ++i) {
            sum[i] = std::fma(key[i], scale, sum[i]);
        }
    }

    /// Normals g become the unit key mu q + sqrt(1 - mu^2) u, u = g made orthogonal to q and normalised.
    void turn_towards_query(float* key, const float* query, double mu) const {
        const double along = dot_in_double(key, query, head_dim_) / dot_in_double(query, query, head_dim_);
        double norm2 = 0.0;
        for (std::size_t i = 0; i < head_dim_; ++i) {
            const double u = static_cast<double>(key[i]) - along * static_cast<double>(query[i]);
            norm2 += u * u;
        }
        const double across = std::sqrt(std::max(0.0, 1.0 - mu * mu) / norm2);
        for (std::size_t i = 0; i < head_dim_; ++i) {
            const double q = static_cast<double>(query[i]);
            key[i] = static_cast<float>(mu * q + across * (static_cast<double>(key[i]) - along * q));
        }
    }

    analysis::RoutingPoint point_;
    PhiloxKey key_;
    std::size_t head_dim_;
    std::size_t row_;  ///< floats a row: head_dim rounded up to whole Philox blocks
    std::size_t rows_a_batch_;
};

}  // namespace

std::unique_ptr<Sampler> make_vector_sampler(const analysis::RoutingPoint& point, PhiloxKey key) {
    const double keys = static_cast<double>(point.candidates) * static_cast<double>(point.block_size);
    check_draws(point, (keys + 1) * static_cast<double>(point.head_dim + 3) / 4);
    return std::make_unique<VectorSampler>(point, key);
}

}  // namespace mobalab::sim
