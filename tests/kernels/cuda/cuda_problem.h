#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/cuda/cuda_memory.h"

// What tests that lay out their own device memory share: the lengths of a problem, and what a call runs over.
namespace mobalab::kernels::testing_support {

/// The sequences of a problem on both sides.
class SequenceLengths {
public:
    SequenceLengths(std::vector<std::int32_t> sq, std::vector<std::int32_t> sk)
        : sq_(std::move(sq)), sk_(std::move(sk)), cu_q_(prefix(sq_)), cu_k_(prefix(sk_)) {}

    /// Batch and lengths of p, whose block_size is set; packed: with cu_seqlens, which live as long as this does.
    void describe(Problem& p, bool packed) {
        p.batch = static_cast<std::int64_t>(sq_.size());
        p.seqlen_q = *std::max_element(sq_.begin(), sq_.end());
        p.seqlen_k = *std::max_element(sk_.begin(), sk_.end());
        if (!packed) return;
        device_q_ = upload(cu_q_);
        device_k_ = upload(cu_k_);
        p.cu_seqlens_q = device_q_->as<std::int32_t>();
        p.cu_seqlens_k = device_k_->as<std::int32_t>();
        p.total_q = queries();
        p.total_k = keys();
        for (const std::int32_t n : sk_) p.total_blocks += (n + p.block_size - 1) / p.block_size;
    }

    std::int64_t sq(std::int64_t b) const { return sq_[static_cast<std::size_t>(b)]; }
    std::int64_t sk(std::int64_t b) const { return sk_[static_cast<std::size_t>(b)]; }
    /// Tokens of the sequences before b.
    std::int64_t q_begin(std::int64_t b) const { return cu_q_[static_cast<std::size_t>(b)]; }
    std::int64_t k_begin(std::int64_t b) const { return cu_k_[static_cast<std::size_t>(b)]; }
    std::int64_t queries() const { return cu_q_.back(); }
    std::int64_t keys() const { return cu_k_.back(); }

private:
    static std::vector<std::int32_t> prefix(const std::vector<std::int32_t>& lengths) {
        std::vector<std::int32_t> sums = {0};
        for (const std::int32_t n : lengths) sums.push_back(sums.back() + n);
        return sums;
    }
    static std::unique_ptr<DeviceBuffer> upload(const std::vector<std::int32_t>& values) {
        auto buffer = std::make_unique<DeviceBuffer>(values.size() * sizeof(std::int32_t));
        buffer->write(values);
        return buffer;
    }

    std::vector<std::int32_t> sq_, sk_, cu_q_, cu_k_;
    std::unique_ptr<DeviceBuffer> device_q_, device_k_;
};

inline Execution execution_over(const DeviceBuffer& workspace) {
    Execution execution;
    execution.backend = Backend::cuda;
    execution.workspace = workspace.get();
    execution.workspace_bytes = workspace.bytes();
    return execution;
}

inline DeviceBuffer workspace_for(Operation operation, const Problem& problem) {
    return DeviceBuffer(std::max<std::size_t>(workspace_size(operation, problem, Backend::cuda), 256));
}

}  // namespace mobalab::kernels::testing_support
