// The judge itself: gradients against finite differences in double, and small cases worked by hand.
#include "kernels/cpu/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace mobalab::kernels::reference {
namespace {

std::vector<double> normal(std::size_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> distribution;
    std::vector<double> values(count);
    for (double& value : values) value = distribution(engine);
    return values;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

/// Every `stride`-th component of `gradient` against the central difference of `loss` over `values`.
template <typename Loss>
void expect_gradient(const std::vector<double>& gradient, std::vector<double>& values, std::size_t stride,
                     const Loss& loss) {
    ASSERT_EQ(gradient.size(), values.size());
    constexpr double step = 1e-5;  // truncation ~ step^2, rounding ~ 1e-16 * loss / step: both below 1e-9
    for (std::size_t i = 0; i < values.size(); i += stride) {
        const double value = values[i];
        values[i] = value + step;
        const double above = loss();
        values[i] = value - step;
        const double below = loss();
        values[i] = value;
        ASSERT_NEAR(gradient[i], (above - below) / (2.0 * step), 1e-7) << "component " << i;
    }
}

class ReferenceTest : public testing::Test {
protected:
    ReferenceTest() {
        p.batch = 2;
        p.seqlen_q = 21;
        p.seqlen_k = 26;
        p.heads_q = 4;
        p.heads_k = 2;
        p.head_dim = 5;
        p.block_size = 4;
        p.topk = 3;
        q = normal(static_cast<std::size_t>(p.tokens_q() * p.heads_q * p.head_dim), 1);
        k = normal(static_cast<std::size_t>(p.tokens_k() * p.heads_k * p.head_dim), 2);
        v = normal(k.size(), 3);
        d_out = normal(q.size(), 4);
        selection = route(p, queries(q), centroids(p, keys(k))).selection;
    }
    Rows queries(const std::vector<double>& values) const { return rows_of(values, p.heads_q, p.head_dim); }
    Rows keys(const std::vector<double>& values) const { return rows_of(values, p.heads_k, p.head_dim); }

    Problem p;
    std::vector<double> q, k, v, d_out;
    std::vector<std::int32_t> selection;
};

TEST_F(ReferenceTest, AttentionGradientsAreTheFiniteDifferences) {
    for (const bool causal : {true, false}) {
        p.causal = causal;
        selection = route(p, queries(q), centroids(p, keys(k))).selection;
        const AttentionGradients gradients =
            attention_backward(p, queries(q), keys(k), keys(v), queries(d_out), selection.data());
        const auto loss = [&] {
            return dot(d_out, attention_forward(p, queries(q), keys(k), keys(v), selection.data()).out);
        };
        expect_gradient(gradients.dq, q, 13, loss);
        expect_gradient(gradients.dk, k, 7, loss);
        expect_gradient(gradients.dv, v, 7, loss);
    }
}

TEST_F(ReferenceTest, ConvolutionGradientsAreTheFiniteDifferences) {
    for (const int width : {1, 3, 8}) {
        std::vector<double> weight = normal(static_cast<std::size_t>(p.heads_k * p.head_dim * width), 5);
        const std::vector<double> upper = normal(k.size(), 6);
        const ConvGradients gradients = key_conv_backward(p, keys(k), weight, width, keys(upper));
        const auto loss = [&] { return dot(upper, key_conv_forward(p, keys(k), weight, width)); };
        expect_gradient(gradients.dk, k, 5, loss);
        expect_gradient(gradients.d_weight, weight, 1, loss);
    }
}

/// The sequence start is zero padded, and sequences do not leak into each other.
TEST_F(ReferenceTest, ConvolutionByHand) {
    p.heads_k = p.head_dim = 1;
    p.seqlen_k = 3;
    const std::vector<double> tokens = {1.0, 2.0, -1.0, 4.0, 0.0, 1.0};
    const std::vector<double> weight = {0.5, 2.0};  // lag 0, lag 1
    const std::vector<double> out = key_conv_forward(p, rows_of(tokens, 1, 1), weight, 2);
    const auto silu = [](double z) { return z / (1.0 + std::exp(-z)); };
    const std::vector<double> want = {1.0 + silu(0.5), 2.0 + silu(3.0), -1.0 + silu(3.5),
                                      4.0 + silu(2.0), silu(8.0),       1.0 + silu(0.5)};
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(out[i], want[i], 1e-15) << i;
}

TEST(ReferenceRouting, ByHand) {
    Problem p;
    p.seqlen_k = 7;
    p.seqlen_q = 2;  // positions 5 and 6, own blocks 2 and 3
    p.head_dim = 1;
    p.block_size = 2;
    p.topk = 3;
    const std::vector<double> k = {1.0, 3.0, 4.0, 0.0, 5.0, 5.0, 9.0};
    const std::vector<double> q = {1.0, -1.0};
    const std::vector<double> means = centroids(p, rows_of(k, 1, 1));
    EXPECT_EQ(means, (std::vector<double>{2.0, 2.0, 5.0, 9.0}));
    const Routing routing = route(p, rows_of(q, 1, 1), means);
    EXPECT_EQ(routing.selection, (std::vector<std::int32_t>{1, 0, 1, 0}));  // 2 and 2 tie; -5 comes last
    EXPECT_EQ(routing.scores, (std::vector<double>{2.0, 2.0, -2.0, -2.0}));
}

TEST(ReferenceCentroids, RoundAsTheProblemAsks) {
    Problem p;
    p.seqlen_k = 2;
    p.head_dim = 1;
    p.block_size = 2;
    p.dtype = DataType::bf16;
    const std::vector<double> k = {1.0, 1.0078125};  // neighbours in bf16; their mean is a tie, to even
    EXPECT_EQ(centroids(p, rows_of(k, 1, 1)), std::vector<double>{1.0});
    p.centroids = Centroids::fp32;
    EXPECT_EQ(centroids(p, rows_of(k, 1, 1)), std::vector<double>{1.00390625});
}

/// Judging some rows gives those rows of the whole result; the gradients of keys are then theirs alone.
TEST_F(ReferenceTest, ChosenQueries) {
    Options options;
    options.queries = {40, 3, 22};
    const Attention all = attention_forward(p, queries(q), keys(k), keys(v), selection.data());
    const Attention some = attention_forward(p, queries(q), keys(k), keys(v), selection.data(), options);
    const Routing routed = route(p, queries(q), centroids(p, keys(k)), options);
    const auto width = static_cast<std::size_t>(p.heads_q * p.head_dim);
    std::vector<double> d_some(d_out.size());
    for (std::size_t i = 0; i < options.queries.size(); ++i) {
        const auto token = static_cast<std::size_t>(options.queries[i]);
        for (std::size_t j = 0; j < width; ++j) {
            EXPECT_EQ(some.out[i * width + j], all.out[token * width + j]);
            d_some[token * width + j] = d_out[token * width + j];
        }
        for (std::size_t head = 0; head < 4; ++head) {
            EXPECT_EQ(some.lse[head * 3 + i], all.lse[head * 42 + token]);
            for (std::size_t slot = 0; slot < 2; ++slot) {
                EXPECT_EQ(routed.selection[(head * 3 + i) * 2 + slot], selection[(head * 42 + token) * 2 + slot]);
            }
        }
    }
    const AttentionGradients masked =
        attention_backward(p, queries(q), keys(k), keys(v), queries(d_some), selection.data());
    const AttentionGradients chosen =
        attention_backward(p, queries(q), keys(k), keys(v), queries(d_out), selection.data(), options);
    for (std::size_t i = 0; i < masked.dk.size(); ++i) ASSERT_NEAR(chosen.dk[i], masked.dk[i], 1e-14);
    for (std::size_t i = 0; i < masked.dv.size(); ++i) ASSERT_NEAR(chosen.dv[i], masked.dv[i], 1e-14);
}

}  // namespace
}  // namespace mobalab::kernels::reference
