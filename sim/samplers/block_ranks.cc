#include "sim/samplers/block_ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sim/samplers/sampler.h"

namespace mobalab::sim {

void BlockRanks::add(std::int32_t* affinities, std::size_t count) {
    if (taken_ < shape_.cluster_size) {  // the cluster's tokens count through cluster_sum
        std::fill_n(affinities, std::min<std::uint64_t>(count, shape_.cluster_size - taken_), 0);
    }
    taken_ += count;
    for (std::size_t at = 0; at < count;) {
        const std::uint64_t whole = (count - at) / shape_.block_size;
        if (open_ == shape_.block_size && whole > 0) {
            std::array<std::int64_t, kSums> sums;
            const auto blocks = static_cast<std::size_t>(std::min<std::uint64_t>(whole, kSums));
            const auto block_size = static_cast<std::size_t>(shape_.block_size);
            loops_.sum_blocks(sums.data(), affinities + at, block_size, blocks);
            for (std::size_t i = 0; i < blocks; ++i) {
                close_block(sums[i]);
            }
            at += blocks * block_size;
            continue;
        }
        const std::size_t run = static_cast<std::size_t>(std::min<std::uint64_t>(open_, count - at));
        sum_ += loops_.sum_affinities(affinities + at, run);
        at += run;
        open_ -= run;
        if (open_ == 0) {
            close_block(sum_);
            sum_ = 0;
            open_ = shape_.block_size;
        }
    }
}

void BlockRanks::close_block(std::int64_t sum) {
    if (block_ == 0) {
        signal_ = sum + shape_.cluster_sum;
    } else if (sum >= signal_) {
        above_ += sum > signal_ || block_ > signal_block_index(key_, trial_, shape_.candidates) ? 1U : 0U;
    }
    ++block_;
}

void check_block_sum(const analysis::RoutingPoint& point) {
    constexpr std::int64_t kMost = std::int64_t{1} << 32U;
    constexpr std::int64_t kMostConvolved = kMost / 128;  // a convolved key is at most 1 + 8 * 8 times as long
    const std::int64_t most = point.key_conv > 0 ? kMostConvolved : kMost;
    if (point.block_size > most) {
        throw analysis::InputError(
            fmt::format("block_size = {}: this method sums one number a key and takes at most {}{}; nearest valid "
                        "value is {}",
                        point.block_size, most, point.key_conv > 0 ? " with a key convolution" : "", most));
    }
}

}  // namespace mobalab::sim
