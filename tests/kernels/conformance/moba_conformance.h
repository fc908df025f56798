#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/kernels.h"

// One set of test bodies (moba_conformance.cc) for every backend. A test program links it with conformance_run.cc and
// conformance_cases.cc, and says which targets it has:
//
//   INSTANTIATE_TEST_SUITE_P(Cpu, MobaConformance, testing::ValuesIn(targets()), target_name);
//
// All outputs start as NaN bytes between canaries; the bodies see plain float vectors.
namespace mobalab::kernels::conformance {

/// Where a backend's tensors live.
class Memory {
public:
    virtual ~Memory() = default;
    /// 256-byte aligned.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* pointer) = 0;
    virtual void write(void* to, const void* from_host, std::size_t bytes) = 0;
    /// Waits for the backend's work first.
    virtual void read(void* to_host, const void* from, std::size_t bytes) = 0;
};

class HostMemory final : public Memory {
public:
    void* allocate(std::size_t bytes) override;
    void release(void* pointer) override;
    void write(void* to, const void* from_host, std::size_t bytes) override;
    void read(void* to_host, const void* from, std::size_t bytes) override;
};

struct Target {
    std::string name;
    Backend backend = Backend::cpu;
    DataType dtype = DataType::fp32;
    std::shared_ptr<Memory> memory;
    bool any_shape = false;  ///< also head sizes that are no multiples of 8
    int repeats = 3;         ///< runs that must agree bit for bit
};

/// A problem and its tensors; values are representable in the dtype. Contiguous, [tokens, heads, head_dim].
struct Case {
    std::string name;
    Problem p;  ///< cu_seqlens null: Device fills them in from the vectors below
    std::vector<std::int32_t> cu_q, cu_k;
    std::vector<float> q, k, v, d_out;

    /// The problem with cu_seqlens in host memory, for the reference.
    Problem host_problem() const;
};

struct Routing {
    Status status;
    std::vector<std::int32_t> selection;
    std::vector<float> scores;
};
struct Attention {
    Status status;
    std::vector<float> out, lse;
    std::vector<std::int32_t> selection;
};
struct Gradients {
    Status status;
    std::vector<float> dq, dk, dv;
};
struct Convolved {
    Status status;
    std::vector<float> out;
};
struct ConvolvedAndPooled {
    Status status;
    std::vector<float> out, centroids;
};
struct ConvGradients {
    Status status;
    std::vector<float> dk, d_weight;
};
struct Pooled {
    Status status;
    std::vector<float> centroids;
};

// Each call uploads, runs with a poisoned workspace of exactly workspace_size() bytes, checks the canaries, downloads.
Pooled run_centroids(const Target& target, const Case& c);
Routing run_route(const Target& target, const Case& c);
Routing run_route_with_centroids(const Target& target, const Case& c, const std::vector<float>& centroids);
Attention run_attention(const Target& target, const Case& c, const std::vector<std::int32_t>& selection);
Attention run_moba(const Target& target, const Case& c);
Gradients run_backward(const Target& target, const Case& c, const Attention& forward,
                       const std::vector<std::int32_t>& selection);
Convolved run_conv(const Target& target, const Case& c, const std::vector<float>& weight, int width);
ConvolvedAndPooled run_conv_centroids(const Target& target, const Case& c, const std::vector<float>& weight, int width);
ConvGradients run_conv_backward(const Target& target, const Case& c, const std::vector<float>& weight, int width,
                                const std::vector<float>& d_out);
/// moba_forward with every tensor spread out (stride_token and stride_head larger than contiguous); the gaps of `out`
/// must keep their poison.
Attention run_strided(const Target& target, const Case& c);

/// Values of a dtype, and how far a correct 16-bit kernel may be from exact arithmetic.
std::vector<float> rounded(std::vector<float> values, DataType dtype);
struct Tolerance {
    double forward, gradient;  ///< relative Frobenius error
    double lse;                ///< absolute, for scores of order 1
};
Tolerance tolerance(const Target& target);

/// A problem by its numbers.
Problem shape(std::int64_t batch, std::int64_t sq, std::int64_t sk, std::int64_t heads_q, std::int64_t heads_k,
              std::int64_t head_dim, std::int64_t block_size, std::int64_t topk);
/// As many queries as keys.
inline Problem shape(std::int64_t batch, std::int64_t seqlen, std::int64_t heads_q, std::int64_t heads_k,
                     std::int64_t head_dim, std::int64_t block_size, std::int64_t topk) {
    return shape(batch, seqlen, seqlen, heads_q, heads_k, head_dim, block_size, topk);
}
/// One sequence, one head.
inline Problem shape(std::int64_t seqlen, std::int64_t head_dim, std::int64_t block_size, std::int64_t topk) {
    return shape(1, seqlen, 1, 1, head_dim, block_size, topk);
}

/// Some sequences begin with rows before every key.
std::vector<Case> more_queries_than_keys(DataType dtype);
/// Multiples of 8 beside the widths that kernels are made for.
std::vector<Case> odd_head_dims(DataType dtype);
/// Not a power of two from 16 on.
std::vector<Case> odd_block_sizes(DataType dtype);
/// More than lists of 64 hold.
std::vector<Case> many_routed_blocks(DataType dtype);
/// Queries without a block of their own, over all blocks of their sequence.
std::vector<Case> non_causal_cases(DataType dtype);
/// Values of another width than keys.
std::vector<Case> other_value_dims(DataType dtype);
/// Shapes that every backend takes, plus odd ones for targets with any_shape.
std::vector<Case> standard_cases(const Target& target);
Case make_case(const std::string& name, Problem p, DataType dtype, unsigned seed);
Case make_varlen_case(const std::string& name, Problem p, const std::vector<std::int32_t>& lengths_q,
                      const std::vector<std::int32_t>& lengths_k, DataType dtype, unsigned seed);
/// Normal numbers rounded to the dtype.
std::vector<float> normal(std::size_t count, DataType dtype, unsigned seed);

class MobaConformance : public testing::TestWithParam<Target> {
protected:
    void SetUp() override;
};

inline void PrintTo(const Target& target, std::ostream* out) {
    *out << target.name;
}

inline std::string target_name(const testing::TestParamInfo<Target>& info) {
    return info.param.name;
}

}  // namespace mobalab::kernels::conformance
