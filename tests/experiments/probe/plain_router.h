#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "experiments/probe/kernel_under_test.h"
#include "sim/streams/gaussian.h"

namespace mobalab::experiments {

/// How a router can be wrong.
struct Fault {
    double noise_variance = 1.0;       ///< variance of the block scores, relative to the truth
    bool lower_index_wins = false;     ///< of equal scores
    std::int64_t more_candidates = 0;  ///< +1: the own block competes; -1: the newest past block does not
};

/// The rule of routing in plain loops, right without a fault.
class PlainRouter : public KernelUnderTest {
public:
    explicit PlainRouter(Fault fault = {}) : fault_(fault) {}

    std::string device() const override { return "plain"; }
    int parallel_key_sets() const override { return 2; }
    std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const override {
        return std::make_unique<Loaded>(shape, keys, fault_);
    }

private:
    class Loaded : public LoadedKeys {
    public:
        Loaded(const ProbeShape& shape, std::span<const float> keys, Fault fault) : shape_(shape), fault_(fault) {
            const auto d = static_cast<std::size_t>(shape.head_dim);
            const auto blocks = static_cast<std::size_t>((shape.seq_len + shape.block_size - 1) / shape.block_size);
            centroids_.assign(blocks * d, 0.0F);
            for (std::int64_t i = 0; i < shape.seq_len; ++i) {
                const std::int64_t block = i / shape.block_size;
                const std::int64_t size = std::min(shape.block_size, shape.seq_len - block * shape.block_size);
                for (std::size_t e = 0; e < d; ++e) {
                    centroids_[static_cast<std::size_t>(block) * d + e] +=
                        keys[static_cast<std::size_t>(i) * d + e] / static_cast<float>(size);
                }
            }
            add_noise();
        }

        void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
                   std::span<std::int32_t> selection) override {
            const float* query = queries.data();
            auto out = selection.begin();
            for (const QueryChunk& chunk : chunks) {
                for (std::int64_t row = 0; row < chunk.rows; ++row, query += shape_.head_dim, out += topk - 1) {
                    const std::int64_t own = (chunk.start + row) / shape_.block_size;
                    const auto best = best_blocks(query, std::max<std::int64_t>(0, own + fault_.more_candidates), topk);
                    std::copy(best.begin(), best.end(), out);
                }
            }
        }

    private:
        // Scores get the missing variance from the centroids, so that a fault of 1.05 is the model with 5 % more. The
        // noise of an element is a function of its value: equal scores stay equal, so that no exact check sees it.
        void add_noise() {
            if (fault_.noise_variance == 1.0) {
                return;
            }
            const auto spread = static_cast<float>(
                std::sqrt((fault_.noise_variance - 1.0) / static_cast<double>(shape_.head_dim * shape_.block_size)));
            for (std::size_t i = 0; i < centroids_.size(); ++i) {
                float noise = 0.0F;
                sim::fill_gaussian({&noise, 1}, {}, std::bit_cast<std::uint32_t>(centroids_[i]),
                                   i % static_cast<std::size_t>(shape_.head_dim));
                centroids_[i] += spread * noise;
            }
        }

        float score(const float* query, std::int32_t block) const {
            return std::inner_product(query, query + shape_.head_dim, centroids_.data() + block * shape_.head_dim,
                                      0.0F);
        }

        std::vector<std::int32_t> best_blocks(const float* query, std::int64_t candidates, std::int64_t topk) const {
            std::vector<std::pair<float, std::int32_t>> blocks;
            for (std::int32_t block = 0; block < candidates; ++block) {
                blocks.emplace_back(score(query, block), block);
            }
            const auto better = [this](const auto& a, const auto& b) {
                const bool higher_index = fault_.lower_index_wins ? a.second < b.second : a.second > b.second;
                return a.first != b.first ? a.first > b.first : higher_index;
            };
            const auto kept = std::min<std::ptrdiff_t>(topk - 1, std::ssize(blocks));
            std::partial_sort(blocks.begin(), blocks.begin() + kept, blocks.end(), better);
            std::vector<std::int32_t> best(static_cast<std::size_t>(topk - 1), -1);
            std::transform(blocks.begin(), blocks.begin() + kept, best.begin(), [](const auto& b) { return b.second; });
            return best;
        }

        ProbeShape shape_;
        Fault fault_;
        std::vector<float> centroids_;
    };

    Fault fault_;
};

}  // namespace mobalab::experiments
