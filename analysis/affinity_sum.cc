#include "analysis/affinity_sum.h"

#include <map>
#include <mutex>
#include <utility>

#include "analysis/affinity_sum_contour.h"
#include "analysis/affinity_sum_table.h"

namespace mobalab::analysis {
namespace {

/// The contour integral needs about exp(37 / smoothness) nodes, a table about terms^2 convolutions, once: the tables
/// end earlier in the few dimensions where they need many terms.
bool use_contour(std::int64_t head_dim, std::int64_t terms) {
    const double smooth_enough = head_dim < 5 ? 12.0 : 24.0;
    return smoothness(head_dim, terms) >= smooth_enough;
}

/// Tables of the rough laws: about 100 (d, R) at most, 20 kB each at most.
class TableStore {
public:
    std::shared_ptr<const AffinitySum> get(std::int64_t head_dim, std::int64_t terms) {
        const std::lock_guard lock(mutex_);
        std::shared_ptr<const AffinitySum> law = std::make_shared<SingleAffinity>(head_dim);
        for (std::int64_t r = 2; r <= terms; ++r) {
            auto& slot = tables_[{head_dim, r}];
            if (!slot) slot = std::make_shared<TabulatedAffinitySum>(head_dim, r, *law);
            law = slot;
        }
        return law;
    }

private:
    std::mutex mutex_;
    std::map<std::pair<std::int64_t, std::int64_t>, std::shared_ptr<const AffinitySum>> tables_;
};

}  // namespace

double smoothness(std::int64_t head_dim, std::int64_t terms) {
    return 0.5 * static_cast<double>(head_dim - 1) * static_cast<double>(terms);
}

std::shared_ptr<const AffinitySum> affinity_sum(std::int64_t head_dim, std::int64_t terms) {
    if (use_contour(head_dim, terms)) return std::make_shared<ContourAffinitySum>(head_dim, terms);
    static TableStore store;
    return store.get(head_dim, terms);
}

}  // namespace mobalab::analysis
