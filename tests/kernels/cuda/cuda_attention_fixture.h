#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cpu/sequences.h"
#include "tests/kernels/cuda/cuda_target.h"

// What the tests of the CUDA attention and of its gradients share: selections drawn here, so that routing takes no
// part, and the set-up of a call.
namespace mobalab::kernels::conformance {

using Selection = std::vector<std::int32_t>;

/// `sink`: block 0 and others at random; `skewed`: rather early blocks; `recent`: the last ones.
enum class Draw { uniform, sink, skewed, recent };

/// Fills the row with up to `routed` distinct blocks below `count`.
inline void draw_row(std::int32_t* row, std::int64_t routed, std::int64_t count, Draw draw, std::mt19937& engine) {
    std::vector<std::int32_t> candidates(static_cast<std::size_t>(count));
    std::iota(candidates.begin(), candidates.end(), 0);
    std::shuffle(candidates.begin(), candidates.end(), engine);
    const auto less = [&](std::int32_t a, std::int32_t b) { return a < b; };
    const auto more = [&](std::int32_t a, std::int32_t b) { return a > b; };
    if (draw == Draw::sink)
        std::nth_element(candidates.begin(), candidates.begin() + (count > 0), candidates.end(), less);
    if (draw == Draw::skewed) {
        std::sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count / 2), less);
    }
    if (draw == Draw::recent) std::sort(candidates.begin(), candidates.end(), more);
    std::copy_n(candidates.begin(), std::min(routed, count), row);
}

inline Selection draw_selection(const Case& c, Draw draw, unsigned seed) {
    const Problem p = c.host_problem();
    Selection selection(static_cast<std::size_t>(p.heads_q * p.tokens_q() * p.routed()), -1);
    std::mt19937 engine(seed);
    for (const cpu::Sequence& s : cpu::sequences_of(p)) {
        for (std::int64_t head = 0; head < p.heads_q; ++head) {
            for (std::int64_t row = 0; row < s.queries; ++row) {
                draw_row(selection.data() + (head * p.tokens_q() + s.q_begin + row) * p.routed(), p.routed(),
                         s.candidates(row), draw, engine);
            }
        }
    }
    return selection;
}

/// The same blocks of every query in another order.
inline Selection shuffled(Selection selection, std::int64_t routed, unsigned seed) {
    std::mt19937 engine(seed);
    for (auto row = selection.begin(); row != selection.end(); row += routed) std::shuffle(row, row + routed, engine);
    return selection;
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// One sequence.
inline Problem shape(std::int64_t tokens, std::int64_t heads_q, std::int64_t heads_k, std::int64_t head_dim,
                     std::int64_t block_size, std::int64_t topk) {
    return shape(1, tokens, heads_q, heads_k, head_dim, block_size, topk);
}

class CudaAttentionFixture : public testing::TestWithParam<Target> {
protected:
    void SetUp() override {
        const Status available = backend_available(Backend::cuda);
        if (!available.ok()) GTEST_SKIP() << available.message;
    }
    static DataType dtype() { return GetParam().dtype; }
};

/// One small call whose tensors the test lays out itself; what is written has memory of its own.
class BareCall {
public:
    BareCall(Operation operation, DataType dtype)
        : problem(shape(64, 1, 1, 64, 16, 1)), data_(memory_.allocate(pieces * piece_bytes)) {
        problem.dtype = dtype;
        execution.backend = Backend::cuda;
        execution.workspace_bytes = workspace_size(operation, problem, Backend::cuda);
        execution.workspace = memory_.allocate(execution.workspace_bytes);
    }
    BareCall(const BareCall&) = delete;
    BareCall& operator=(const BareCall&) = delete;
    ~BareCall() {
        memory_.release(execution.workspace);
        memory_.release(data_);
    }
    /// Rows of 64 elements from byte `offset` on.
    ConstTensor in(std::int64_t stride_token = 64, std::ptrdiff_t offset = 0) const {
        return {.data = static_cast<const std::byte*>(data_) + offset, .stride_token = stride_token, .stride_head = 64};
    }
    /// Outputs 1, 2 and 3; piece 0 is every input, piece 4 lse.
    Tensor out(int piece, std::int64_t stride_token = 64) const {
        return {.data = static_cast<std::byte*>(data_) + piece * piece_bytes,
                .stride_token = stride_token,
                .stride_head = 64};
    }
    float* lse() const { return reinterpret_cast<float*>(static_cast<std::byte*>(data_) + 4 * piece_bytes); }

    Problem problem;
    Execution execution;

private:
    static constexpr std::size_t pieces = 5, piece_bytes = 64 * 128 * 2;  // tensors of 64 rows
    CudaMemory memory_;
    void* data_;
};

}  // namespace mobalab::kernels::conformance
