#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace mobalab::analysis {

/// Values from low to high, both included.
template <typename Value>
struct Range {
    Value low;
    Value high;
    friend bool operator==(const Range&, const Range&) = default;
};

/// All whole numbers x of a range at which excess(x, context(x)) >= 0, as ranges.
///
/// The excess must be smooth in x at a fixed context, and fall (or stay) as the context rises; the context must fall
/// (or stay) as x rises. Here x is a head_dim or block_size and the context the number of candidates, which a longer
/// block makes fewer: the excess along a sequence is then a saw tooth that no sampling would follow, but between any
/// two x it lies between the excesses at the most and at the fewest candidates, which are smooth.
///
/// The first `each` values are looked at one by one. Beyond, pieces that double in length are looked at by ends and
/// middle. A piece counts as reached (or not) as a whole only where these three are on one side of 0 by more than a
/// quarter of their spread: a parabola through them leaves the spread by an eighth at most. Where they go from one side
/// to the other in order the crossing is bisected; every other piece is halved, in the end to single values. So only
/// a wave shorter than half a piece could hide (none was found by looking at every value: inverse_test.cc).
class ReachSearch {
public:
    using Excess = std::function<double(std::int64_t x, std::int64_t context)>;
    using Context = std::function<std::int64_t(std::int64_t x)>;

    ReachSearch(Excess excess, Context context);

    /// low <= high.
    std::vector<Range<std::int64_t>> over(std::int64_t low, std::int64_t high, std::int64_t each);

    /// Of the values looked at, the one with the largest excess; the first of equals.
    std::int64_t best() const { return best_; }

private:
    double at(std::int64_t x, std::int64_t context);
    double at(std::int64_t x) { return at(x, context_(x)); }
    void add(std::int64_t low, std::int64_t high);
    void piece(std::int64_t a, std::int64_t b);
    void smooth_piece(std::int64_t a, std::int64_t b);

    Excess excess_;
    Context context_;
    std::map<std::pair<std::int64_t, std::int64_t>, double> known_;
    std::vector<Range<std::int64_t>> reached_;
    std::int64_t best_ = 0;
    double best_excess_ = 0.0;
    bool any_ = false;
};

}  // namespace mobalab::analysis
