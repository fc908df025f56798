// Decoding on the fast path: few queries, each with blocks of its own, so rows of keys are read where they stand.
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/cpu/cached_keys.h"
#include "kernels/cpu/operations.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/tile.h"

namespace mobalab::kernels::cpu {
namespace {

/// The keys of one block that a row sees.
struct Span {
    Index first, count;
};

/// One thread's scratch.
class DecodeWorker {
public:
    DecodeWorker(const Problem& p, const Cache& cache, ConstTensor k, ConstTensor v)
        : p_(p),
          keys_(p, cache, k),
          values_(p, cache, v),
          query_(p.head_dim),
          key_(p.head_dim),
          value_(p.value_dim()),
          total_(p.value_dim()) {}

    /// Puts a row's attention into `total` and returns its lse. selected: its slots.
    float run(const void* query, const Sequence& s, Index row, Index head_k, const std::int32_t* selected) {
        total_.setZero();
        find_spans(s, row, selected);
        if (spans_.empty()) return std::numeric_limits<float>::infinity();
        read_row(query, p_.dtype, p_.head_dim, query_.data());
        query_ *= static_cast<float>(p_.softmax_scale());
        const Index count = std::accumulate(spans_.begin(), spans_.end(), Index{0},
                                            [](Index sum, const Span& span) { return sum + span.count; });
        if (scores_.size() < count) scores_.resize(count);
        auto weights = scores_.head(count);
        Index at = 0;
        for_each_key([&](Index position) {
            read_row(keys_.row(s.number, position, head_k), p_.dtype, p_.head_dim, key_.data());
            weights[at++] = query_.matrix().dot(key_.matrix());
        });
        const float highest = *std::max_element(scores_.data(), scores_.data() + count);
        weights = (weights - highest).exp();
        at = 0;
        for_each_key([&](Index position) {
            read_row(values_.row(s.number, position, head_k), p_.dtype, p_.value_dim(), value_.data());
            total_ += weights[at++] * value_;
        });
        const float sum = weights.sum();
        total_ /= sum;
        return highest + std::log(sum);
    }

    const Eigen::ArrayXf& total() const { return total_; }

private:
    /// The selected blocks, each once and in the order of its slot, then its own up to the row's position.
    void find_spans(const Sequence& s, Index row, const std::int32_t* selected) {
        spans_.clear();
        if (s.position(row) < 0) return;
        const Index own = s.own_block(row);
        for (const std::int32_t* slot = selected; slot != selected + p_.routed(); ++slot) {
            if (*slot < 0 || *slot >= own || std::find(selected, slot, *slot) != slot) continue;
            spans_.push_back({*slot * p_.block_size, p_.block_size});
        }
        spans_.push_back({own * p_.block_size, s.position(row) + 1 - own * p_.block_size});
    }

    template <typename Visit>
    void for_each_key(const Visit& visit) const {
        for (const Span& span : spans_) {
            for (Index i = span.first; i < span.first + span.count; ++i) visit(i);
        }
    }

    const Problem& p_;
    CachedKeys keys_, values_;
    Eigen::ArrayXf query_, key_, value_, total_;
    std::vector<Span> spans_;
    /// Of the keys of all spans; then their weights. An array of Eigen's is aligned, so that its sums do not depend on
    /// where it lies.
    Eigen::ArrayXf scores_;
};

}  // namespace

Status append_centroids(const Problem& p, const Cache& cache, ConstTensor k, std::int64_t appended, void* centroids,
                        const Execution& execution) {
    return append_by_computing(cpu::compute_centroids, p, cache, k, appended, centroids, execution);
}

Status decode_route(const Problem& p, const Cache& cache, ConstTensor q, const void* centroids, std::int32_t* selection,
                    float* scores, const Execution& execution) {
    return route_sequences(p, cached_sequences_of(p, cache), q, centroids, selection, scores, execution);
}

Status decode_attention(const Problem& p, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                        const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    const std::vector<Sequence> sequences = cached_sequences_of(p, cache);
    const Index group = p.heads_q / p.heads_k;
    parallel_for_workers(p.heads_q * p.tokens_q(), execution.threads, [&]() -> Task {
        return [&, worker = DecodeWorker(p, cache, k, v)](Index i) mutable {
            const Index head = i / p.tokens_q(), token = i % p.tokens_q();
            const Sequence& s = sequences[static_cast<std::size_t>(token / p.seqlen_q)];
            const Index row = token % p.seqlen_q;
            const void* query = row_address(queries_of(s, q, p.dtype), p.dtype, row, head);
            const std::int32_t* selected = p.routed() == 0 ? selection : selection + i * p.routed();
            lse[i] = worker.run(query, s, row, head / group, selected);
            write_row(row_address(queries_of(s, out, p.dtype), p.dtype, row, head), p.dtype, p.value_dim(),
                      worker.total().data());
        };
    });
    return {};
}

}  // namespace mobalab::kernels::cpu
