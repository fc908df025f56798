// attention_backward of the CUDA backend where it can go wrong on its own: every head and block size, runs long enough
// to be split, several chunks, neighbours in the batch, keys that nobody attends to. Selections are drawn here, so
// routing takes no part.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/reference.h"
#include "tests/kernels/cuda/cuda_attention_fixture.h"

namespace mobalab::kernels::conformance {
namespace {

using reference::rows_of;

std::vector<double> wide(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

/// |got - want| / |want| in the Frobenius norm; not below any bound where something is NaN.
double relative_error(const std::vector<float>& got, const std::vector<double>& want) {
    EXPECT_EQ(got.size(), want.size());
    double difference = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return std::sqrt(difference / std::max(norm, 1e-30));
}

class CudaBackward : public CudaAttentionFixture {
protected:
    Gradients run(const Case& c, const Selection& selection) const {
        const Attention forward = run_attention(GetParam(), c, selection);
        EXPECT_TRUE(forward.status.ok()) << forward.status.message;
        Gradients got = run_backward(GetParam(), c, forward, selection);
        EXPECT_TRUE(got.status.ok()) << got.status.message;
        return got;
    }
    void judge(const Case& c, const Selection& selection) const {
        SCOPED_TRACE(c.name);
        const Gradients got = run(c, selection);
        const Problem p = c.host_problem();
        const reference::AttentionGradients want = reference::attention_backward(
            p, rows_of(wide(c.q), p.heads_q, p.head_dim), rows_of(wide(c.k), p.heads_k, p.head_dim),
            rows_of(wide(c.v), p.heads_k, p.head_dim), rows_of(wide(c.d_out), p.heads_q, p.head_dim), selection.data());
        const double bound = tolerance(GetParam()).gradient;
        EXPECT_LE(relative_error(got.dq, want.dq), bound);
        EXPECT_LE(relative_error(got.dk, want.dk), bound);
        EXPECT_LE(relative_error(got.dv, want.dv), bound);
    }
};

TEST_P(CudaBackward, EveryHeadAndBlockSize) {
    unsigned seed = 1100;
    for (const std::int64_t head_dim : {32, 64, 96, 128, 256, 16, 56, 88, 120, 176}) {
        for (const std::int64_t block_size : {16, 32, 64, 128, 256, 512, 1, 9, 24, 48, 80, 100, 130, 320, 600}) {
            const std::int64_t tokens = 2 * std::max<std::int64_t>(block_size, 128) + 37;
            const Case c = make_case("d " + std::to_string(head_dim) + ", B " + std::to_string(block_size),
                                     shape(tokens, 2, 1, head_dim, block_size, 3), dtype(), seed++);
            judge(c, draw_selection(c, Draw::uniform, seed));
        }
    }
}

/// Many runs a block, own queries of a block in several items.
TEST_P(CudaBackward, VeryLargeBlocks) {
    for (const std::int64_t block_size : {1024, 1500, 2048}) {
        const Case c = make_case("B " + std::to_string(block_size), shape(block_size + 700, 2, 1, 64, block_size, 2),
                                 dtype(), 1170);
        judge(c, draw_selection(c, Draw::uniform, 1171));
    }
}

/// Their tables do not fit in shared memory at once.
TEST_P(CudaBackward, ListsInRanges) {
    Problem p = shape(60000, 2, 1, 64, 1, 12);
    p.seqlen_q = 200;
    const Case c = make_case("60000 blocks of one key", p, dtype(), 1180);
    judge(c, draw_selection(c, Draw::uniform, 1181));
}

/// Block 0 is attended to by everyone: more tiles than one thread block takes.
TEST_P(CudaBackward, SplitRuns) {
    for (const std::int64_t block_size : {32, 64, 128, 100, 200}) {
        const Case c =
            make_case("sink, B " + std::to_string(block_size), shape(4001, 2, 1, 64, block_size, 2), dtype(), 1200);
        judge(c, draw_selection(c, Draw::sink, 1201));
    }
    const Case wide = make_case("sink, B 64, d 128", shape(4001, 2, 1, 128, 64, 2), dtype(), 1202);
    const Selection selection = draw_selection(wide, Draw::sink, 1203);
    judge(wide, selection);
    const Gradients first = run(wide, selection), second = run(wide, selection);
    EXPECT_TRUE(same_bits(first.dq, second.dq) && same_bits(first.dk, second.dk) && same_bits(first.dv, second.dv));
}

/// A thread block has several units: full runs of keys and last ones of fewer, which must not be taken for each other.
/// Units are drawn longest first, so all of a problem have one tile, and a head has 5 (9) lists: no power of two
/// divides the thread blocks' turns through them. The two of 12 keys have units of more tiles.
TEST_P(CudaBackward, UnitsOfFullAndOfShorterRunsFollowOneAnother) {
    struct Shape {
        std::int64_t batch, sq, sk, head_dim, block_size, topk;
        bool causal;
    };
    for (const Shape& s : {Shape{80, 70, 70, 72, 12, 3, true}, Shape{80, 70, 70, 64, 12, 3, true},
                           Shape{24, 24, 430, 128, 100, 5, true}, Shape{24, 24, 430, 64, 100, 5, true},
                           Shape{24, 24, 950, 128, 200, 5, true}, Shape{24, 12, 780, 64, 192, 5, true},
                           Shape{24, 24, 550, 128, 128, 5, false}, Shape{24, 24, 1180, 64, 256, 5, false},
                           Shape{40, 24, 280, 64, 32, 9, false}, Shape{40, 24, 280, 128, 32, 9, false}}) {
        Problem p = shape(s.batch, s.sq, s.sk, 8, 8, s.head_dim, s.block_size, s.topk);
        p.causal = s.causal;
        const Case c = make_case("d " + std::to_string(s.head_dim) + ", B " + std::to_string(s.block_size) +
                                     (s.causal ? "" : ", not causal"),
                                 p, dtype(), 1220);
        judge(c, draw_selection(c, Draw::uniform, 1221));
    }
}

/// Lists of one head are more than a chunk may have, so its queries come in two chunks: the second one must leave the
/// gradients of the first as they are. Rows that are not causal hang on nothing but themselves.
TEST_P(CudaBackward, NotCausalInSeveralChunksOfTokens) {
    Problem p = shape(1, 140000, 1024, 1, 1, 64, 1, 1023);
    p.causal = false;
    const Case c = make_case("140000 queries", p, dtype(), 1230);
    const Selection selection = draw_selection(c, Draw::uniform, 1231);
    const Gradients whole = run(c, selection);
    constexpr std::int64_t few = 64;
    for (const std::int64_t first : {std::int64_t{0}, std::int64_t{131072} - few, p.seqlen_q - few}) {
        const auto rows = [&](const auto& of_all, std::int64_t width) {
            return std::decay_t<decltype(of_all)>(of_all.begin() + first * width,
                                                  of_all.begin() + (first + few) * width);
        };
        Case part = c;
        part.p.seqlen_q = few;
        part.q = rows(c.q, p.head_dim);
        part.d_out = rows(c.d_out, p.head_dim);
        const std::vector<float> want = run(part, rows(selection, p.routed())).dq, got = rows(whole.dq, p.head_dim);
        EXPECT_LE(relative_error(got, wide(want)), tolerance(GetParam()).gradient) << "from row " << first;
    }
}

/// More partials than scratch holds, of lists in several chunks of heads.
TEST_P(CudaBackward, SeveralPassesAndChunks) {
    Problem p = shape(1024, 8, 8, 128, 16, 64);
    p.batch = 6;
    const Case c = make_case("passes", p, dtype(), 1250);
    const Selection selection = draw_selection(c, Draw::uniform, 1251);
    judge(c, selection);
    const Gradients first = run(c, selection);
    for (int repeat = 0; repeat < 5; ++repeat) {
        const Gradients again = run(c, selection);
        ASSERT_TRUE(same_bits(first.dq, again.dq) && same_bits(first.dk, again.dk) && same_bits(first.dv, again.dv));
    }
}

TEST_P(CudaBackward, TopKFromOneTo64) {
    for (const std::int64_t topk : {1, 2, 17, 33, 64}) {
        const Case c = make_case("topk " + std::to_string(topk), shape(1200, 1, 1, 64, 16, topk), dtype(), 1300);
        judge(c, draw_selection(c, Draw::uniform, 1301));
    }
}

TEST_P(CudaBackward, ManySlots) {
    for (const std::int64_t topk : {65, 100, 300, 1024}) {
        for (const std::int64_t block_size : {1, 3, 8}) {
            const Case c = make_case("topk " + std::to_string(topk) + ", B " + std::to_string(block_size),
                                     shape(1200, 1, 1, 64, block_size, topk), dtype(), 1310);
            judge(c, draw_selection(c, Draw::uniform, 1311));
        }
    }
    const Case varlen = make_varlen_case("variable length", shape(1, 4, 2, 64, 2, 150), {1, 0, 700, 5, 900},
                                         {1, 0, 900, 400, 800}, dtype(), 1312);
    judge(varlen, draw_selection(varlen, Draw::skewed, 1313));
}

/// Partials of a sequence are more than a pass may have: dk and dv are sums over passes.
TEST_P(CudaBackward, ManySlotsInPassesOfPartsOfASequence) {
    const Case cases[] = {
        make_case("d 256", shape(1200, 2, 1, 256, 1, 1024), dtype(), 1320),
        make_case("d 120, more queries than keys", shape(1, 1700, 1500, 4, 1, 120, 1, 1024), dtype(), 1321),
        make_varlen_case("variable length", shape(1, 8, 2, 128, 1, 1024), {700, 0, 900, 40}, {700, 3, 1100, 30},
                         dtype(), 1322)};
    for (const Case& c : cases) {
        const Selection selection = draw_selection(c, Draw::uniform, 1323);
        judge(c, selection);
        const Gradients first = run(c, selection);
        for (int repeat = 0; repeat < 3; ++repeat) {
            const Gradients again = run(c, selection);
            ASSERT_TRUE(same_bits(first.dq, again.dq) && same_bits(first.dk, again.dk) && same_bits(first.dv, again.dv))
                << c.name;
        }
    }
}

TEST_P(CudaBackward, SequencesOfEveryLength) {
    const std::vector<std::int32_t> queries = {1, 0, 127, 128, 129, 5, 300, 0},
                                    keys = {1, 0, 127, 128, 129, 400, 300, 64};
    for (const std::int64_t block_size : {16, 64, 128, 256, 7, 48, 130}) {
        for (const std::int64_t head_dim : {64, 256, 72}) {
            const Case c = make_varlen_case("B " + std::to_string(block_size), shape(1, 4, 2, head_dim, block_size, 3),
                                            queries, keys, dtype(), 1400);
            judge(c, draw_selection(c, Draw::uniform, 1401));
        }
    }
}

TEST_P(CudaBackward, NoQueriesMeanNoGradients) {
    const Case c = make_varlen_case("keys alone", shape(1, 2, 2, 64, 32, 2), {0, 0}, {100, 31}, dtype(), 1500);
    const Gradients got = run(c, {});
    const auto zero = [](float x) { return x == 0.0F; };
    EXPECT_EQ(got.dk.size(), 131U * 2 * 64);
    EXPECT_TRUE(std::all_of(got.dk.begin(), got.dk.end(), zero));
    EXPECT_TRUE(std::all_of(got.dv.begin(), got.dv.end(), zero));
}

/// The last keys of a sequence share a tile with the first of the next one.
TEST_P(CudaBackward, InfinitiesOfTheNextSequenceStayThere) {
    for (const std::int64_t head_dim : {64, 128, 256}) {
        Case c = make_varlen_case("d " + std::to_string(head_dim), shape(1, 2, 2, head_dim, 32, 3), {77, 150, 200},
                                  {77, 150, 200}, dtype(), 1600);
        const Selection selection = draw_selection(c, Draw::uniform, 1601);
        const Gradients clean = run(c, selection);
        const auto first = static_cast<std::ptrdiff_t>((77 + 150) * 2 * head_dim);
        for (std::vector<float>* x : {&c.q, &c.k, &c.v, &c.d_out}) {
            std::fill(x->begin() + first, x->end(), std::numeric_limits<float>::infinity());
        }
        const Gradients dirty = run(c, selection);
        const auto bytes = static_cast<std::size_t>(first) * sizeof(float);
        EXPECT_EQ(std::memcmp(clean.dq.data(), dirty.dq.data(), bytes), 0) << c.name;
        EXPECT_EQ(std::memcmp(clean.dk.data(), dirty.dk.data(), bytes), 0) << c.name;
        EXPECT_EQ(std::memcmp(clean.dv.data(), dirty.dv.data(), bytes), 0) << c.name;
    }
}

TEST_P(CudaBackward, OrderOfTheSelectionDoesNotChangeBits) {
    const Case c = make_case("shuffled", shape(900, 2, 1, 128, 16, 8), dtype(), 1700);
    const Selection selection = draw_selection(c, Draw::uniform, 1701);
    const Gradients first = run(c, selection), second = run(c, shuffled(selection, 7, 1702));
    EXPECT_TRUE(same_bits(first.dq, second.dq));
    EXPECT_TRUE(same_bits(first.dk, second.dk));
    EXPECT_TRUE(same_bits(first.dv, second.dv));
}

TEST_P(CudaBackward, MisalignedTensorsAreRefused) {
    const BareCall call(Operation::attention_backward, dtype());
    const ConstTensor in = call.in();
    const Status status = attention_backward(call.problem, in, in, in, in, in, call.lse(), nullptr, call.out(1),
                                             call.out(2, 67), call.out(3), call.execution);
    EXPECT_EQ(status.code, StatusCode::invalid_argument);
    EXPECT_NE(status.message.find("dk.stride_token = 67"), std::string::npos) << status.message;
}

TEST_P(CudaBackward, RowsFurtherApartThan32BitsReachAreRefused) {
    const BareCall call(Operation::attention_backward, dtype());
    const ConstTensor in = call.in();
    // Refused before anyone reads it: an address far from all memory, so that it overlaps nothing.
    ConstTensor wide = call.in(std::int64_t{1} << 30);
    wide.data = reinterpret_cast<const void*>(std::uintptr_t{1} << 45);
    const Status status = attention_backward(call.problem, in, in, in, in, wide, call.lse(), nullptr, call.out(1),
                                             call.out(2), call.out(3), call.execution);
    EXPECT_EQ(status.code, StatusCode::invalid_argument);
    EXPECT_NE(status.message.find("d_out.stride_token = 1073741824"), std::string::npos) << status.message;
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaBackward, testing::ValuesIn(cuda_targets()), target_name);

}  // namespace
}  // namespace mobalab::kernels::conformance
