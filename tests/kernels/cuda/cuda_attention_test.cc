// attention_forward of the CUDA backend where it can go wrong on its own: every head and block size, lists long and
// skewed enough for many pieces, chunks, neighbours in the batch, alignment. Selections are drawn here, so routing
// takes no part.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/reference.h"
#include "tests/kernels/cuda/cuda_attention_fixture.h"

namespace mobalab::kernels::conformance {
namespace {

/// Query tokens to judge: all of them, or some at random with the last one.
std::vector<std::int64_t> judged(std::int64_t tokens, std::int64_t at_most) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(tokens));
    std::iota(all.begin(), all.end(), 0);
    if (tokens <= at_most) return all;
    std::mt19937 engine(99);
    std::shuffle(all.begin(), all.end() - 1, engine);
    std::swap(all.front(), all.back());
    all.resize(static_cast<std::size_t>(at_most));
    return all;
}

struct Errors {
    double relative = 0.0;  ///< Frobenius
    double largest = 0.0;
    double lse = 0.0;
};

/// NaN in anything judged makes every error infinite.
Errors compare(const Case& c, const Attention& got, std::int64_t at_most) {
    const Problem p = c.host_problem();
    reference::Options options;
    options.queries = judged(p.tokens_q(), at_most);
    const std::vector<double> q(c.q.begin(), c.q.end()), k(c.k.begin(), c.k.end()), v(c.v.begin(), c.v.end());
    const reference::Attention want = reference::attention_forward(
        p, reference::rows_of(q, p.heads_q, p.head_dim), reference::rows_of(k, p.heads_k, p.head_dim),
        reference::rows_of(v, p.heads_k, p.head_dim), got.selection.data(), options);
    Errors errors;
    double difference = 0.0, norm = 0.0;
    const auto width = static_cast<std::size_t>(p.heads_q * p.head_dim);
    for (std::size_t i = 0; i < options.queries.size(); ++i) {
        const auto token = static_cast<std::size_t>(options.queries[i]);
        for (std::size_t j = 0; j < width; ++j) {
            const double d = got.out[token * width + j] - want.out[i * width + j];
            difference += d * d;
            norm += want.out[i * width + j] * want.out[i * width + j];
            errors.largest = std::max(errors.largest, std::abs(d));
        }
        for (std::size_t head = 0; head < static_cast<std::size_t>(p.heads_q); ++head) {
            const double d = std::abs(got.lse[head * static_cast<std::size_t>(p.tokens_q()) + token] -
                                      want.lse[head * options.queries.size() + i]);
            if (!(d <= errors.lse)) errors.lse = d;
        }
    }
    errors.relative = std::sqrt(difference / norm);
    if (!std::isfinite(errors.relative)) errors.relative = errors.largest = std::numeric_limits<double>::infinity();
    return errors;
}

class CudaAttention : public CudaAttentionFixture {
protected:
    Attention run(const Case& c, const Selection& selection) const {
        Attention got = run_attention(GetParam(), c, selection);
        EXPECT_TRUE(got.status.ok()) << got.status.message;
        return got;
    }
    void judge(const Case& c, const Selection& selection, std::int64_t at_most) const {
        SCOPED_TRACE(c.name);
        const Errors errors = compare(c, run(c, selection), at_most);
        EXPECT_LE(errors.relative, tolerance(GetParam()).forward);
        EXPECT_LE(errors.lse, tolerance(GetParam()).lse);
    }
};

TEST_P(CudaAttention, EveryHeadAndBlockSize) {
    unsigned seed = 100;
    for (const std::int64_t head_dim : {32, 64, 96, 128, 256, 16, 56, 88, 120, 176}) {
        for (const std::int64_t block_size : {16, 32, 64, 128, 256, 512, 1, 9, 24, 48, 80, 100, 130, 320, 600, 1024}) {
            const std::int64_t tokens = 3 * std::max<std::int64_t>(block_size, 128) + 37;
            const Case c = make_case("d " + std::to_string(head_dim) + ", B " + std::to_string(block_size),
                                     shape(tokens, 2, 1, head_dim, block_size, 4), dtype(), seed++);
            judge(c, draw_selection(c, Draw::uniform, seed), 60);
        }
    }
}

/// Many runs a block, own queries of a block in several items, windows of less than a sequence.
TEST_P(CudaAttention, VeryLargeBlocks) {
    for (const std::int64_t block_size : {2048, 3000, 4096, 16384}) {
        const Case c =
            make_case("B " + std::to_string(block_size),
                      shape(2 * block_size + 700, 2, 1, block_size == 4096 ? 128 : 64, block_size, 3), dtype(), 150);
        judge(c, draw_selection(c, Draw::uniform, 151), 40);
    }
}

/// Their tables do not fit in shared memory at once.
TEST_P(CudaAttention, ListsInRanges) {
    Problem p = shape(60000, 2, 1, 64, 1, 12);
    p.seqlen_q = 200;
    const Case c = make_case("60000 blocks of one key", p, dtype(), 160);
    judge(c, draw_selection(c, Draw::uniform, 161), 200);
}

TEST_P(CudaAttention, LongAndSkewedLists) {
    for (const Draw draw : {Draw::uniform, Draw::sink, Draw::skewed, Draw::recent}) {
        for (const std::int64_t block_size : {32, 128, 100, 8, 256, 330}) {
            const Case c = make_case("draw " + std::to_string(static_cast<int>(draw)),
                                     shape(5001, 2, 1, 128, block_size, 6), dtype(), 200);
            judge(c, draw_selection(c, draw, 201), 100);
        }
    }
}

TEST_P(CudaAttention, TopKFromOneTo64) {
    for (const std::int64_t topk : {1, 2, 17, 33, 64}) {
        const Case c = make_case("topk " + std::to_string(topk), shape(1500, 1, 1, 64, 16, topk), dtype(), 300);
        judge(c, draw_selection(c, Draw::uniform, 301), 150);
    }
}

TEST_P(CudaAttention, ManySlots) {
    for (const std::int64_t topk : {65, 100, 300, 1024}) {
        for (const std::int64_t block_size : {1, 3, 8}) {
            const Case c = make_case("topk " + std::to_string(topk) + ", B " + std::to_string(block_size),
                                     shape(1500, 2, 1, 64, block_size, topk), dtype(), 310);
            judge(c, draw_selection(c, Draw::uniform, 311), 100);
        }
    }
    const Case varlen = make_varlen_case("variable length", shape(1, 4, 2, 64, 2, 150), {1, 0, 700, 5, 900},
                                         {1, 0, 900, 400, 800}, dtype(), 312);
    judge(varlen, draw_selection(varlen, Draw::skewed, 313), 300);
    Problem p = shape(60000, 2, 1, 64, 1, 200);
    p.seqlen_q = 200;
    const Case ranges = make_case("60000 blocks of one key", p, dtype(), 314);
    judge(ranges, draw_selection(ranges, Draw::uniform, 315), 50);
}

/// Partials of the sequence are more than the workspace may hold.
TEST_P(CudaAttention, ManySlotsInWindows) {
    const Case c = make_case("windows", shape(1300, 2, 1, 256, 1, 1024), dtype(), 320);
    const Selection selection = draw_selection(c, Draw::uniform, 321);
    judge(c, selection, 100);
    EXPECT_TRUE(same_bits(run(c, selection).out, run(c, shuffled(selection, 1023, 322)).out));
}

TEST_P(CudaAttention, SequencesOfEveryLength) {
    const std::vector<std::int32_t> queries = {1, 0, 127, 128, 129, 5, 300, 0},
                                    keys = {1, 0, 127, 128, 129, 400, 300, 64};
    for (const std::int64_t block_size : {16, 128, 256, 7, 48, 130}) {
        const Case c = make_varlen_case("B " + std::to_string(block_size), shape(1, 4, 2, 64, block_size, 3), queries,
                                        keys, dtype(), 400);
        judge(c, draw_selection(c, Draw::uniform, 401), 1000);
    }
}

/// What a 16-bit attention of a framework does on the same keys: scores, probabilities and outputs each rounded to the
/// dtype, products accumulated in fp32 or better.
double largest_error_in_16_bit_steps(const Case& c, const Selection& selection, std::int64_t at_most) {
    const Problem& p = c.p;
    const auto d = static_cast<std::size_t>(p.head_dim);
    const auto round = [&](double x) { return static_cast<double>(cpu::round_to(p.dtype, static_cast<float>(x))); };
    double largest = 0.0;
    for (const std::int64_t row : judged(p.tokens_q(), at_most)) {
        std::vector<std::int64_t> keys;
        const auto add = [&](std::int64_t block) {
            for (std::int64_t key = block * p.block_size; key < std::min((block + 1) * p.block_size, row + 1); ++key)
                keys.push_back(key);
        };
        add(row / p.block_size);
        for (std::int64_t slot = 0; slot < p.routed(); ++slot) {
            const std::int32_t block = selection[static_cast<std::size_t>(row * p.routed() + slot)];
            if (block >= 0) add(block);
        }
        const float* q = c.q.data() + row * p.head_dim;
        std::vector<double> exact, rounded_scores;
        for (const std::int64_t key : keys) {
            double score = 0.0;
            for (std::size_t i = 0; i < d; ++i)
                score += static_cast<double>(q[i]) * c.k[static_cast<std::size_t>(key) * d + i];
            exact.push_back(score / std::sqrt(static_cast<double>(d)));
            rounded_scores.push_back(round(exact.back()));
        }
        const auto softmax = [](std::vector<double> scores) {
            const double top = *std::max_element(scores.begin(), scores.end());
            double sum = 0.0;
            for (double& s : scores) sum += s = std::exp(s - top);
            for (double& s : scores) s /= sum;
            return scores;
        };
        const std::vector<double> want = softmax(exact);
        const std::vector<double> have = softmax(rounded_scores);
        for (std::size_t i = 0; i < d; ++i) {
            double truth = 0.0, low = 0.0;
            for (std::size_t j = 0; j < keys.size(); ++j) {
                const double value = c.v[static_cast<std::size_t>(keys[j]) * d + i];
                truth += want[j] * value;
                low += round(have[j]) * value;
            }
            largest = std::max(largest, std::abs(round(low) - truth));
        }
    }
    return largest;
}

TEST_P(CudaAttention, AtMostTwiceTheErrorOf16BitSteps) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
        const Case c = make_case("d " + std::to_string(head_dim), shape(1000, 1, 1, head_dim, 64, 4), dtype(), 500);
        const Selection selection = draw_selection(c, Draw::uniform, 501);
        const double theirs = largest_error_in_16_bit_steps(c, selection, 300);
        EXPECT_LE(compare(c, run(c, selection), 300).largest, 2.0 * theirs) << c.name;
    }
}

/// More heads mean several launches, as their partials do not fit the workspace at once; a head must not notice.
TEST_P(CudaAttention, LaunchesDoNotChangeBits) {
    const Case all = make_case("8 heads", shape(2400, 8, 8, 64, 32, 33), dtype(), 600);
    const Selection selection = draw_selection(all, Draw::uniform, 601);
    const Attention together = run(all, selection);
    Case one = all;
    one.p.heads_q = one.p.heads_k = 1;
    const std::size_t of_one = workspace_size(Operation::attention_forward, one.p, Backend::cuda);
    const std::size_t of_all = workspace_size(Operation::attention_forward, all.p, Backend::cuda);
    if ((of_one == 0) != (of_all == 0)) GTEST_SKIP() << "one head and all of them go by different algorithms";
    if (of_all > 0) {  // by lists
        ASSERT_LT(of_one, of_all);
        ASSERT_LT(of_all, 8 * of_one);
    }
    for (std::size_t head = 0; head < 8; ++head) {
        const auto take = [&](const std::vector<float>& from) {
            std::vector<float> to;
            for (std::size_t at = head * 64; at < from.size(); at += 8 * 64) {
                to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(at),
                          from.begin() + static_cast<std::ptrdiff_t>(at + 64));
            }
            return to;
        };
        one.q = take(all.q);
        one.k = take(all.k);
        one.v = take(all.v);
        const auto rows = static_cast<std::ptrdiff_t>(2400 * 32);
        const auto begin = selection.begin() + static_cast<std::ptrdiff_t>(head) * rows;
        EXPECT_TRUE(same_bits(run(one, Selection(begin, begin + rows)).out, take(together.out))) << "head " << head;
    }
}

TEST_P(CudaAttention, OrderOfTheSelectionDoesNotChangeBits) {
    const Case c = make_case("shuffled", shape(900, 2, 1, 128, 16, 8), dtype(), 700);
    const Selection selection = draw_selection(c, Draw::uniform, 701);
    const Attention first = run(c, selection), second = run(c, shuffled(selection, 7, 702));
    EXPECT_TRUE(same_bits(first.out, second.out));
    EXPECT_TRUE(same_bits(first.lse, second.lse));
}

/// The last keys of a sequence share a tile with the first of the next one.
TEST_P(CudaAttention, InfinitiesOfTheNextSequenceStayThere) {
    for (const std::int64_t block_size : {32, 256}) {
        for (const std::int64_t head_dim : {64, 128, 256}) {
            Case c =
                make_varlen_case("d " + std::to_string(head_dim) + ", B " + std::to_string(block_size),
                                 shape(1, 2, 2, head_dim, block_size, 3), {77, 150, 200}, {77, 150, 200}, dtype(), 800);
            const Selection selection = draw_selection(c, Draw::uniform, 801);
            const Attention clean = run(c, selection);
            const auto first = static_cast<std::ptrdiff_t>((77 + 150) * 2 * head_dim);
            std::fill(c.k.begin() + first, c.k.end(), std::numeric_limits<float>::infinity());
            std::fill(c.v.begin() + first, c.v.end(), std::numeric_limits<float>::infinity());
            const Attention dirty = run(c, selection);
            EXPECT_EQ(std::memcmp(clean.out.data(), dirty.out.data(), static_cast<std::size_t>(first) * sizeof(float)),
                      0)
                << c.name;
        }
    }
}

/// How a row of the selection stands to a key: kernels.h says that a value that is NaN or infinite may reach rows
/// before it in its own block and those that selected it or, with blocks below 128 keys, a neighbour among the same 128
/// keys.
enum class Sight { sees, near, apart };
Sight sight_of(const Problem& p, const Selection& selection, std::int64_t head, std::int64_t row, std::int64_t key) {
    std::vector<std::int64_t> blocks = {row / p.block_size};
    for (std::int64_t slot = 0; slot < p.routed(); ++slot) {
        const std::int32_t block = selection[static_cast<std::size_t>((head * p.seqlen_q + row) * p.routed() + slot)];
        if (block >= 0) blocks.push_back(block);
    }
    const std::int64_t together = std::max<std::int64_t>(p.block_size, 128);
    Sight sight = Sight::apart;
    for (const std::int64_t block : blocks) {
        if (block == key / p.block_size && row >= key) return Sight::sees;
        if (block * p.block_size / together == key / together) sight = Sight::near;
    }
    return sight;
}

TEST_P(CudaAttention, StrangeValuesReachNoRowThatDoesNotLookThere) {
    constexpr std::int64_t key = 400, element = 77, d = 128;
    for (const std::int64_t block_size : {16, 64, 128, 256}) {
        for (const float strange : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            Case c = make_case("B " + std::to_string(block_size), shape(1300, 2, 1, d, block_size, 3), dtype(), 810);
            SCOPED_TRACE(c.name);
            const Selection selection = draw_selection(c, Draw::uniform, 811);
            const Attention clean = run(c, selection);
            c.v[static_cast<std::size_t>(key * d + element)] = strange;
            const Attention dirty = run(c, selection);
            EXPECT_TRUE(same_bits(clean.lse, dirty.lse));
            int apart = 0, seen = 0;
            for (std::int64_t row = 0; row < c.p.seqlen_q; ++row) {
                for (std::int64_t head = 0; head < c.p.heads_q; ++head) {
                    const auto at = static_cast<std::size_t>((row * c.p.heads_q + head) * d);
                    const Sight sight = sight_of(c.p, selection, head, row, key);
                    apart += sight == Sight::apart;
                    seen += sight == Sight::sees;
                    if (sight == Sight::sees) {
                        ASSERT_FALSE(std::isfinite(dirty.out[at + element])) << "row " << row;
                    }
                    if (sight == Sight::apart) {
                        ASSERT_EQ(std::memcmp(&clean.out[at], &dirty.out[at], d * sizeof(float)), 0) << "row " << row;
                    }
                }
            }
            EXPECT_GT(apart, 500);
            EXPECT_GT(seen, 10);
        }
    }
}

TEST_P(CudaAttention, MisalignedTensorsAreRefused) {
    const BareCall call(Operation::attention_forward, dtype());
    const auto status = [&](const ConstTensor& in) {
        return attention_forward(call.problem, in, in, in, nullptr, call.out(1), call.lse(), call.execution);
    };
    EXPECT_EQ(status(call.in(67)).code, StatusCode::invalid_argument);
    EXPECT_NE(status(call.in(67)).message.find("67"), std::string::npos);
    EXPECT_EQ(status(call.in(64, 2)).code, StatusCode::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaAttention, testing::ValuesIn(cuda_targets()), target_name);

}  // namespace
}  // namespace mobalab::kernels::conformance
