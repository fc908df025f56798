#include "analysis/reach_search.h"

#include <algorithm>
#include <cmath>

namespace mobalab::analysis {
namespace {

/// Infinite excesses (a sure hit, a sure miss) become finite, so that they have differences.
constexpr double largest_excess = 1e9;

/// What the excess may do between the three places looked at.
double slack(double a, double b, double c) {
    return 0.25 * (std::max({a, b, c}) - std::min({a, b, c}));
}

bool all_below(double a, double b, double c) {
    return std::max({a, b, c}) + slack(a, b, c) < 0.0;
}

bool all_reach(double a, double b, double c) {
    return std::min({a, b, c}) - slack(a, b, c) >= 0.0;
}

bool in_order(double a, double b, double c) {
    return (a <= b && b <= c) || (a >= b && b >= c);
}

}  // namespace

ReachSearch::ReachSearch(Excess excess, Context context) : excess_(std::move(excess)), context_(std::move(context)) {}

std::vector<Range<std::int64_t>> ReachSearch::over(std::int64_t low, std::int64_t high, std::int64_t each) {
    reached_.clear();
    const std::int64_t last_single = std::min(high, low + each - 1);
    for (std::int64_t x = low; x <= last_single; ++x) {
        if (at(x) >= 0.0) add(x, x);
    }
    for (std::int64_t a = last_single; a < high;) {
        const std::int64_t b = std::min(high, a + std::max<std::int64_t>(1, a - low));
        piece(a, b);
        a = b;
    }
    return reached_;
}

double ReachSearch::at(std::int64_t x, std::int64_t context) {
    const auto [place, fresh] = known_.try_emplace({x, context}, 0.0);
    if (!fresh) return place->second;
    const double value = std::clamp(excess_(x, context), -largest_excess, largest_excess);
    place->second = value;
    if (context == context_(x) && (!any_ || value > best_excess_)) {
        best_ = x;
        best_excess_ = value;
        any_ = true;
    }
    return value;
}

/// Ranges come in ascending order and may share an end.
void ReachSearch::add(std::int64_t low, std::int64_t high) {
    if (!reached_.empty() && low <= reached_.back().high + 1) {
        reached_.back().high = std::max(reached_.back().high, high);
    } else {
        reached_.push_back({low, high});
    }
}

void ReachSearch::piece(std::int64_t a, std::int64_t b) {
    const std::int64_t most = context_(a);
    const std::int64_t fewest = context_(b);
    if (most == fewest || b - a <= 1) {
        smooth_piece(a, b);
        return;
    }
    const std::int64_t middle = a + (b - a) / 2;
    if (std::max(at(a, fewest), at(b, fewest)) < 0.0) {
        if (all_below(at(a, fewest), at(middle, fewest), at(b, fewest))) return;
    } else if (std::min(at(a, most), at(b, most)) >= 0.0 && all_reach(at(a, most), at(middle, most), at(b, most))) {
        add(a, b);
        return;
    }
    piece(a, middle);
    piece(middle, b);
}

/// At one number of candidates, or two neighbours.
void ReachSearch::smooth_piece(std::int64_t a, std::int64_t b) {
    const double left = at(a);
    const double right = at(b);
    if (b - a <= 1) {
        if (left >= 0.0) add(a, a);
        if (right >= 0.0) add(b, b);
        return;
    }
    const std::int64_t middle = a + (b - a) / 2;
    const double centre = at(middle);
    if (all_below(left, centre, right)) return;
    if (all_reach(left, centre, right)) {
        add(a, b);
        return;
    }
    if (!in_order(left, centre, right) || (left >= 0.0) == (right >= 0.0)) {
        smooth_piece(a, middle);
        smooth_piece(middle, b);
        return;
    }
    std::int64_t from = a;
    std::int64_t to = b;
    while (to - from > 1) {
        const std::int64_t x = from + (to - from) / 2;
        ((at(x) >= 0.0) == (left >= 0.0) ? from : to) = x;
    }
    if (left >= 0.0) {
        add(a, from);
    } else {
        add(to, b);
    }
}

}  // namespace mobalab::analysis
