#include "sim/samplers/token_scores.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "sim/streams/transforms.h"

namespace mobalab::sim {
namespace {

std::int64_t steps(double affinity) {
    return std::llround(affinity * static_cast<double>(kAffinityScale));
}

}  // namespace

TokenScores::Shape::Shape(const analysis::RoutingPoint& point)
    : block_size(static_cast<std::uint64_t>(point.block_size)),
      cluster_size(static_cast<std::uint64_t>(point.cluster_size)),
      needles(static_cast<std::uint64_t>(point.needles)),
      candidates(point.candidates),
      cluster_sum(steps(point.delta_mu_eff())),
      mu_signal(steps(point.mu_signal)),
      mu_cluster(steps(point.mu_cluster)),
      correlated(point.key_correlation > 0.0),
      common_share(std::sqrt(point.key_correlation)),
      own_share(1.0 - point.key_correlation),
      width(static_cast<std::uint64_t>(point.key_conv)),
      tap(point.key_conv_tap) {}

void TokenScores::begin(const NeedlePlaces& places) {
    places_ = &places;
    tails_.assign(shape_.width > 0 ? scores_.size() : 0, 0);
    block_ = token_ = 0;
    own_ = tail_ = 0;
}

void TokenScores::add(std::int32_t* affinities, std::size_t count) {
    constexpr std::size_t kSums = 128;
    for (std::size_t at = 0; at < count;) {
        const std::uint64_t whole = (count - at) / shape_.block_size;
        if (token_ == 0 && whole > 0 && block_ >= shape_.needles && shape_.width == 0) {
            std::array<std::int64_t, kSums> sums;
            const auto blocks = static_cast<std::size_t>(std::min<std::uint64_t>(whole, kSums));
            const auto block_size = static_cast<std::size_t>(shape_.block_size);
            loops_.sum_blocks(sums.data(), affinities + at, block_size, blocks);
            for (std::size_t i = 0; i < blocks; ++i) {
                own_ = sums[i];
                close_block();
            }
            at += blocks * block_size;
            continue;
        }
        const auto run = static_cast<std::size_t>(std::min<std::uint64_t>(shape_.block_size - token_, count - at));
        if (block_ < shape_.needles) {
            clear_cluster(affinities + at, run);
        }
        add_run(affinities + at, run);
        at += run;
        if (token_ == shape_.block_size) {
            close_block();
        }
    }
}

void TokenScores::clear_cluster(std::int32_t* affinities, std::size_t run) {
    const std::uint64_t first = places_->offset(block_);
    const std::uint64_t begin = std::clamp(first, token_, token_ + run);
    const std::uint64_t end = std::clamp(first + shape_.cluster_size, token_, token_ + run);
    std::fill(affinities + (begin - token_), affinities + (end - token_), 0);
}

void TokenScores::add_run(const std::int32_t* affinities, std::size_t run) {
    own_ += loops_.sum_affinities(affinities, run);
    if (shape_.width > 0) {
        const std::uint64_t first = std::max(token_, shape_.block_size - shape_.width);
        for (std::uint64_t token = first; token < token_ + run; ++token) {
            tail_ += static_cast<std::int64_t>(tail_weight(token)) * affinities[token - token_];
        }
    }
    token_ += run;
}

/// sqrt(rho) y weight + sqrt((1 - rho)(1 - y^2)) own, in steps, for random keys of this total weight.
std::int64_t TokenScores::with_common(std::int64_t own, std::uint64_t weight) const {
    if (!shape_.correlated) {
        return own;
    }
    const auto common = static_cast<double>(common_[static_cast<std::size_t>(block_)]);
    const double y = common * 0x1p-30;
    const double length = std::sqrt(shape_.own_share * (1.0 - y * y));
    return static_cast<std::int64_t>(shape_.common_share * (static_cast<double>(weight) * common) +
                                     length * static_cast<double>(own));
}

void TokenScores::close_block() {
    const auto at = static_cast<std::size_t>(block_);
    const bool needle = block_ < shape_.needles;
    scores_[at] =
        with_common(own_, shape_.block_size - (needle ? shape_.cluster_size : 0)) + (needle ? shape_.cluster_sum : 0);
    if (shape_.width > 0) {
        std::uint64_t random_weight = shape_.width * (shape_.width - 1) / 2;
        std::int64_t planted = 0;
        for (std::uint64_t i = 0; needle && i < shape_.cluster_size; ++i) {
            const std::uint64_t weight = tail_weight(places_->offset(block_) + i);
            random_weight -= weight;
            planted += static_cast<std::int64_t>(weight) * (i == 0 ? shape_.mu_signal : shape_.mu_cluster);
        }
        tails_[at] = with_common(tail_, random_weight) + planted;
    }
    ++block_;
    token_ = 0;
    own_ = tail_ = 0;
}

std::span<const std::int64_t> TokenScores::finish(const NeedlePlaces& places) {
    if (shape_.width > 0) {
        places.stream_blocks(order_, shape_.candidates);
        const auto width = static_cast<std::int64_t>(shape_.width);
        std::int64_t previous_tail = 0;  // zero before the sequence
        for (const std::uint32_t block : order_) {
            const std::int64_t lagged = width * scores_[block] - tails_[block] + previous_tail;
            scores_[block] += static_cast<std::int64_t>(shape_.tap * static_cast<double>(lagged));
            previous_tail = tails_[block];
        }
    }
    return scores_;
}

}  // namespace mobalab::sim
