// cu_seqlens in device memory hold anything: no kernel reads or writes outside its tensors (the buffers of the test
// have canaries; under compute-sanitizer every access is checked). Only the results are unspecified.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <limits>

#include "tests/kernels/cuda/cuda_target.h"

namespace mobalab::kernels::conformance {
namespace {

using Boundaries = std::vector<std::int32_t>;

constexpr std::int32_t lowest = std::numeric_limits<std::int32_t>::min();
constexpr std::int32_t highest = std::numeric_limits<std::int32_t>::max();

struct Hostile {
    const char* name;
    Boundaries q, k;
};

/// For three sequences of 300 tokens in all.
std::vector<Hostile> hostile_boundaries() {
    return {
        {"decreasing", {0, 200, 100, 300}, {0, 200, 100, 300}},
        {"decreasing queries", {0, 200, 100, 300}, {0, 100, 200, 300}},
        {"decreasing keys", {0, 100, 200, 300}, {0, 200, 100, 300}},
        {"reversed", {300, 200, 100, 0}, {300, 200, 100, 0}},
        {"negative", {-5, -100, lowest, 300}, {-5, lowest, -100, 300}},
        {"too large", {0, 100, highest, 300}, {0, highest, highest, highest}},
        {"extremes", {lowest, highest, lowest, highest}, {highest, lowest, highest, lowest}},
        {"all at the end", {300, 300, 300, 300}, {300, 300, 300, 300}},
        {"all empty", {0, 0, 0, 0}, {0, 0, 0, 0}},
        {"one over all", {0, 0, 300, 300}, {0, 0, 300, 300}},
        {"more queries than keys", {0, 290, 295, 300}, {0, 10, 20, 300}},
        {"short of the end", {0, 50, 60, 70}, {0, 50, 60, 70}},
        {"not from 0", {1, 101, 201, 300}, {1, 101, 201, 300}},
    };
}

class CudaBoundaries : public MobaConformance {
protected:
    /// What attention makes of boundaries that break the rules.
    static void expect_empty_sequences(const Attention& got) {
        EXPECT_TRUE(got.status.ok()) << got.status.message;
        EXPECT_TRUE(std::all_of(got.out.begin(), got.out.end(), [](float x) { return x == 0.0F; }));
        EXPECT_TRUE(std::all_of(got.lse.begin(), got.lse.end(),
                                [](float x) { return x == std::numeric_limits<float>::infinity(); }));
    }
    void run_everything(const Case& c) {
        const std::vector<float> weight =
            normal(static_cast<std::size_t>(c.p.heads_k * c.p.head_dim * 4), DataType::fp32, 60);
        for (const Status& status :
             {run_centroids(GetParam(), c).status, run_route(GetParam(), c).status, run_moba(GetParam(), c).status,
              run_conv(GetParam(), c, weight, 4).status, run_conv_centroids(GetParam(), c, weight, 4).status,
              run_conv_backward(GetParam(), c, weight, 4, c.v).status}) {
            EXPECT_TRUE(status.ok()) << status.message;
        }
        const auto rows = static_cast<std::size_t>(c.p.total_q * c.p.heads_q);
        const std::vector<std::int32_t> selection(rows * static_cast<std::size_t>(c.p.routed()), 1);
        Attention forward;  // filled member by member: GCC 12 takes a braced one for uninitialised
        forward.out = c.q;
        forward.lse.assign(rows, 1.0F);
        forward.selection = selection;
        expect_empty_sequences(run_attention(GetParam(), c, selection));
        EXPECT_TRUE(run_backward(GetParam(), c, forward, selection).status.ok());
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << c.name;
    }
};

TEST_P(CudaBoundaries, NothingIsTouchedOutsideTheTensors) {
    for (const std::int64_t block_size : {16, 128, 5, 150}) {
        for (const std::int64_t head_dim : {64, 256, 40}) {
            for (const Hostile& hostile : hostile_boundaries()) {
                Problem p;
                p.heads_q = 2;
                p.head_dim = head_dim;
                p.block_size = block_size;
                p.topk = 4;
                Case c = make_varlen_case(hostile.name, p, {100, 100, 100}, {100, 100, 100}, GetParam().dtype, 61);
                SCOPED_TRACE(c.name + ", block_size " + std::to_string(block_size));
                c.cu_q = hostile.q;
                c.cu_k = hostile.k;
                run_everything(c);
                if (HasFatalFailure()) return;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaBoundaries, testing::ValuesIn(cuda_targets()), target_name);

}  // namespace
}  // namespace mobalab::kernels::conformance
