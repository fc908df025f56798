#include "analysis/block_score_law.h"

#include <fmt/format.h>

#include <cmath>

#include "analysis/affinity_sum.h"
#include "analysis/routing_point.h"

namespace mobalab::analysis {
namespace {

std::shared_ptr<const AffinitySum> checked_sum(std::int64_t head_dim, std::int64_t block_size) {
    if (head_dim < 2)
        throw InputError(fmt::format("head_dim = {}: must be at least 2; nearest valid value is 2", head_dim));
    if (block_size < 1) {
        throw InputError(fmt::format("block_size = {}: must be at least 1; nearest valid value is 1", block_size));
    }
    return affinity_sum(head_dim, block_size);
}

}  // namespace

BlockScoreLaw::BlockScoreLaw(std::int64_t head_dim, std::int64_t block_size)
    : block_size_(static_cast<double>(block_size)), sum_(checked_sum(head_dim, block_size)) {}

double BlockScoreLaw::log_upper_tail(double s) const {
    return sum_->at_gaps(block_size_ * (1.0 + s), block_size_ * (1.0 - s)).upper;
}

double BlockScoreLaw::log_lower_tail(double s) const {
    return sum_->at_gaps(block_size_ * (1.0 + s), block_size_ * (1.0 - s)).lower;
}

double BlockScoreLaw::log_density(double s) const {
    return sum_->at_gaps(block_size_ * (1.0 + s), block_size_ * (1.0 - s)).density + std::log(block_size_);
}

double BlockScoreLaw::cdf(double s) const {
    return std::exp(log_lower_tail(s));
}

}  // namespace mobalab::analysis
