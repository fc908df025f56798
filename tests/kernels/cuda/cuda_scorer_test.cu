// Every scorer on a real device against loops in double precision that follow kernels/scorer.h: what is kept of the
// keys, selections and scores. Outputs and scratch start as NaN bytes between canaries, so do the gaps between rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/conformance/keep_first_row.h"
#include "tests/kernels/cuda/cuda_memory.h"
#include "tests/kernels/cuda/cuda_problem.h"
#include "tests/kernels/cuda/exact_scores.h"
#include "tests/kernels/cuda/selection_check.h"

namespace mobalab::kernels {
namespace {

using namespace testing_support;

enum class Values {
    normal,      // sums of uniforms, about unit variance
    integers,    // -2..2: what is kept and all scores are exact, so ties are real
    equal_keys,  // every key the same: every score ties
    with_nan,    // normal, a few channels of keys and queries are NaN
    infinite,    // normal, a few channels of keys are infinite
    opposite,    // queries positive, keys negative: what has no keys, and scores 0, would be the best
};

struct Shape {
    std::vector<std::int32_t> sq, sk;  // one entry per sequence
    Scorer scorer = {};
    std::int64_t heads_q = 2, heads_k = 1, head_dim = 128, block_size = 64, topk = 8;
    DataType dtype = DataType::bf16;
    Values values = Values::normal;
    bool varlen = false;
    bool causal = true;
    std::int64_t gap = 0;  // unused elements after each row
};

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

constexpr std::uint64_t queries_seed = 1, keys_seed = 2;

float value_at(Values values, std::uint64_t seed, std::uint64_t i) {
    const std::uint64_t bits = mix(seed, i);
    if (values == Values::integers) return static_cast<float>(bits % 5) - 2.0f;
    if (values == Values::with_nan && bits % 5003 == 0) return NAN;
    if (values == Values::infinite && seed == keys_seed && bits % 5003 == 0)
        return bits % 2 == 0 ? INFINITY : -INFINITY;
    float sum = -6.0f;
    for (int k = 0; k < 4; ++k) sum += 3.0f * static_cast<float>((bits >> (16 * k)) & 0xffff) / 65536.0f;
    if (values == Values::opposite) return seed == queries_seed ? 1.0f + std::fabs(sum) : -1.0f - std::fabs(sum);
    return sum;
}

/// Rows of queries or keys on both sides; gaps between them are NaN on the device.
class Rows {
public:
    Rows(const Shape& shape, std::uint64_t seed, std::int64_t tokens, std::int64_t heads, std::int64_t period)
        : heads_(heads), row_(shape.head_dim), pitch_(shape.head_dim + shape.gap) {
        values_.resize(index(tokens * heads * row_));
        std::vector<std::uint16_t> bits(index(tokens * heads * pitch_), 0xffff);
        for (std::int64_t t = 0; t < tokens; ++t) {
            const std::int64_t from = period > 0 ? t % period : t;
            for (std::int64_t i = 0; i < heads * row_; ++i) {
                const std::uint16_t x = to_bits(
                    value_at(shape.values, seed, static_cast<std::uint64_t>(from * heads * row_ + i)), shape.dtype);
                values_[index(t * heads * row_ + i)] = from_bits(x, shape.dtype);
                bits[index((t * heads + i / row_) * pitch_ + i % row_)] = x;
            }
        }
        device_ = std::make_unique<DeviceBuffer>(bits.size() * 2);
        device_->write(bits);
    }

    ConstTensor tensor(std::int64_t tokens_of_sequence) const {
        return {device_->get(), tokens_of_sequence * heads_ * pitch_, heads_ * pitch_, pitch_};
    }
    const float* row(std::int64_t token, std::int64_t head) const {
        return values_.data() + (token * heads_ + head) * row_;
    }

private:
    std::int64_t heads_, row_, pitch_;
    std::vector<float> values_;
    std::unique_ptr<DeviceBuffer> device_;
};

/// A shape with its tensors.
class Fixture {
public:
    explicit Fixture(const Shape& shape)
        : shape_(shape),
          lengths_(shape.sq, shape.sk),
          q_(shape, queries_seed, lengths_.queries(), shape.heads_q, 0),
          k_(shape, keys_seed, lengths_.keys(), shape.heads_k, shape.values == Values::equal_keys ? 1 : 0) {
        p_.heads_q = shape.heads_q;
        p_.heads_k = shape.heads_k;
        p_.head_dim = shape.head_dim;
        p_.block_size = shape.block_size;
        p_.topk = shape.topk;
        p_.causal = shape.causal;
        p_.dtype = shape.dtype;
        p_.scorer = shape.scorer;
        lengths_.describe(p_, shape.varlen);
    }

    const Shape& shape() const { return shape_; }
    const Problem& problem() const { return p_; }
    const ScorerDefinition& scorer() const { return *find_scorer(shape_.scorer.kind); }
    ConstTensor q() const { return q_.tensor(p_.seqlen_q); }
    ConstTensor k() const { return k_.tensor(p_.seqlen_k); }
    std::int64_t sq(std::int64_t b) const { return lengths_.sq(b); }
    std::int64_t sk(std::int64_t b) const { return lengths_.sk(b); }
    std::int64_t q_begin(std::int64_t b) const { return lengths_.q_begin(b); }
    std::int64_t blocks_of(std::int64_t keys) const { return (keys + shape_.block_size - 1) / shape_.block_size; }
    std::int64_t sub_size() const { return shape_.block_size / shape_.scorer.sub_blocks; }
    /// Blocks of sequence b that row r may select.
    std::int64_t candidates(std::int64_t b, std::int64_t r) const {
        return shape_.causal ? (r + sk(b) - sq(b)) / shape_.block_size : blocks_of(sk(b));
    }
    std::int64_t sub_blocks_with_keys(std::int64_t b) const { return (sk(b) + sub_size() - 1) / sub_size(); }
    std::int64_t sub_blocks_of(std::int64_t b) const { return blocks_of(sk(b)) * shape_.scorer.sub_blocks; }
    /// Sub-blocks of the sequences before b.
    std::int64_t sub_block_begin(std::int64_t b) const {
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < b; ++i) sum += sub_blocks_of(i);
        return sum;
    }
    std::int64_t kept_elements() const { return scorer().parts * p_.sub_blocks() * shape_.heads_k * shape_.head_dim; }
    const float* query(std::int64_t b, std::int64_t r, std::int64_t head) const { return q_.row(q_begin(b) + r, head); }
    const float* key(std::int64_t b, std::int64_t t, std::int64_t head) const {
        return k_.row(lengths_.k_begin(b) + t, head);
    }

private:
    Shape shape_;
    SequenceLengths lengths_;
    Rows q_, k_;
    Problem p_;
};

/// What the scorer keeps; some memory that stays as it was for one that keeps nothing.
std::unique_ptr<DeviceBuffer> keep(const Fixture& f) {
    const Problem& p = f.problem();
    auto kept = std::make_unique<DeviceBuffer>(index(std::max<std::int64_t>(f.kept_elements(), 8)) * 2);
    const DeviceBuffer workspace = workspace_for(Operation::centroids, p);
    const Status s = compute_centroids(p, f.k(), kept->get(), execution_over(workspace));
    EXPECT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "compute_centroids");
    EXPECT_TRUE(kept->canaries_intact() && workspace.canaries_intact());
    return kept;
}

struct Routed {
    std::vector<std::int32_t> selection;
    std::vector<float> scores;

    bool same_bits(const Routed& other) const {
        return selection == other.selection && scores.size() == other.scores.size() &&
               std::memcmp(scores.data(), other.scores.data(), scores.size() * 4) == 0;
    }
};

Routed run_route(const Fixture& f, const Problem& p, const DeviceBuffer* kept) {
    const std::size_t entries = index(p.heads_q * p.tokens_q() * p.routed());
    const DeviceBuffer selection(entries * 4), scores(entries * 4);
    const DeviceBuffer workspace =
        workspace_for(kept != nullptr ? Operation::route_with_centroids : Operation::route, p);
    auto* const blocks = selection.as<std::int32_t>();
    const Execution execution = execution_over(workspace);
    const Status s = kept != nullptr
                         ? route_with_centroids(p, f.q(), kept->get(), blocks, scores.as<float>(), execution)
                         : route(p, f.q(), f.k(), blocks, scores.as<float>(), execution);
    EXPECT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "route");
    EXPECT_TRUE(selection.canaries_intact() && scores.canaries_intact() && workspace.canaries_intact());
    return {selection.read<std::int32_t>(), scores.read<float>()};
}

Routed run_route(const Fixture& f, const DeviceBuffer* kept) {
    return run_route(f, f.problem(), kept);
}

/// What a part keeps of one channel of the keys [first, last), and how far rounding may move it.
struct Channel {
    double value = 0.0, tolerance = 0.0;
};

Channel summarise(const Fixture& f, Summary summary, std::int64_t b, std::int64_t head, std::int64_t e,
                  std::int64_t first, std::int64_t last) {
    if (first >= last) return {};
    Channel channel;
    double magnitude = 0.0;
    if (summary != Summary::mean) channel.value = f.key(b, first, head)[e];
    for (std::int64_t t = first; t < last; ++t) {
        const double x = f.key(b, t, head)[e];
        channel.value = summary == Summary::mean ? channel.value + x : extreme(summary, channel.value, x);
        magnitude += std::fabs(x);
    }
    if (summary != Summary::mean) return channel;
    const auto keys = static_cast<double>(last - first);
    const double half_ulp = f.problem().dtype == DataType::bf16 ? 0x1p-8 : 0x1p-11;
    channel.value /= keys;
    channel.tolerance = half_ulp * std::fabs(channel.value) + 0x1p-22 * magnitude / keys + 0x1p-25;
    return channel;
}

bool agrees(float got, const Channel& want) {
    if (std::isnan(want.value)) return std::isnan(got);
    if (std::isinf(want.value)) return got == want.value;
    return std::fabs(got - want.value) <= want.tolerance;
}

/// Runs check(task) for all tasks on some threads; the first text that is not empty.
template <typename Check>
std::string in_parallel(std::int64_t tasks, const Check& check) {
    constexpr std::int64_t workers = 16;
    std::vector<std::string> wrong(workers);
    std::vector<std::thread> threads;
    for (std::int64_t w = 0; w < workers; ++w) {
        threads.emplace_back([&, w] {
            for (std::int64_t task = w; task < tasks && wrong[index(w)].empty(); task += workers) {
                wrong[index(w)] = check(task);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    const auto found = std::find_if(wrong.begin(), wrong.end(), [](const std::string& text) { return !text.empty(); });
    return found == wrong.end() ? std::string() : *found;
}

std::string check_kept_part(const Fixture& f, const std::vector<float>& kept, int part) {
    const Problem& p = f.problem();
    const std::int64_t row = p.heads_k * p.head_dim;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        const std::int64_t begin = f.sub_block_begin(b);
        const std::string wrong = in_parallel(f.sub_blocks_of(b), [&](std::int64_t j) -> std::string {
            const std::int64_t first = j * f.sub_size(), last = std::min(first + f.sub_size(), f.sk(b));
            for (std::int64_t i = 0; i < row; ++i) {
                const Channel want =
                    summarise(f, f.scorer().part[index(part)].summary, b, i / p.head_dim, i % p.head_dim, first, last);
                const float got = kept[index(((begin + j) * f.scorer().parts + part) * row + i)];
                if (agrees(got, want)) continue;
                return "part " + std::to_string(part) + " sequence " + std::to_string(b) + " sub-block " +
                       std::to_string(j) + " element " + std::to_string(i) + ": " + std::to_string(got) + " for " +
                       std::to_string(want.value);
            }
            return {};
        });
        if (!wrong.empty()) return wrong;
    }
    return {};
}

ExactRow row_of(const Fixture& f, const std::vector<float>& kept, std::int64_t b, std::int64_t head, std::int64_t r) {
    const Problem& p = f.problem();
    const std::int64_t candidates = f.candidates(b, r);
    if (f.scorer().parts == 0) return hashed_row(p.scorer, b, head, r + f.sk(b) - f.sq(b), candidates);
    const std::int64_t begin = f.sub_block_begin(b), key_head = head / (p.heads_q / p.heads_k);
    const auto kept_of = [&](int part, std::int64_t sub_block) {
        return kept.data() + (((begin + sub_block) * f.scorer().parts + part) * p.heads_k + key_head) * p.head_dim;
    };
    return exact_row(p.scorer, p.head_dim, f.query(b, r, head), candidates, f.sub_blocks_with_keys(b), kept_of);
}

std::string check_selection(const Fixture& f, const std::vector<float>& kept, const Routed& routed) {
    const Problem& p = f.problem();
    const bool exact = f.scorer().parts == 0 || f.shape().values == Values::integers;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        const std::string wrong = in_parallel(p.heads_q * f.sq(b), [&](std::int64_t task) -> std::string {
            const std::int64_t head = task / f.sq(b), r = task % f.sq(b);
            const ExactRow row = row_of(f, kept, b, head, r);
            const SelectionCheck check = {row.score, exact ? 0.0 : row.slack()};
            const std::int64_t at = (head * p.tokens_q() + f.q_begin(b) + r) * p.routed();
            std::string text = check(p.routed(), routed.selection.data() + at, routed.scores.data() + at);
            if (f.shape().values == Values::equal_keys && text.empty() && f.scorer().parts > 0 && !row.score.empty() &&
                routed.selection[index(at)] != static_cast<std::int32_t>(row.score.size()) - 1) {
                text = "of equal blocks the last must win";
            }
            if (text.empty()) return {};
            return "sequence " + std::to_string(b) + " head " + std::to_string(head) + " row " + std::to_string(r) +
                   ": " + text;
        });
        if (!wrong.empty()) return wrong;
    }
    return {};
}

/// With keep_first: block 0 in front of what was there without.
std::string check_keep_first(const Fixture& f, const Routed& plain, const Routed& kept) {
    const Problem& p = f.problem();
    for (std::int64_t b = 0; b < p.batch; ++b) {
        const std::string wrong = in_parallel(p.heads_q * f.sq(b), [&](std::int64_t task) -> std::string {
            const std::int64_t head = task / f.sq(b), r = task % f.sq(b);
            const KeepFirstRow check = {index(p.routed()), f.candidates(b, r) > 0};
            const std::int64_t at = (head * p.tokens_q() + f.q_begin(b) + r) * p.routed();
            const std::string text = check(plain.selection.data() + at, plain.scores.data() + at,
                                           kept.selection.data() + at, kept.scores.data() + at);
            if (text.empty()) return {};
            return "keep_first: sequence " + std::to_string(b) + " head " + std::to_string(head) + " row " +
                   std::to_string(r) + ": " + text;
        });
        if (!wrong.empty()) return wrong;
    }
    return {};
}

void expect_what_the_definition_says(const Shape& shape) {
    const Fixture f(shape);
    const auto kept_device = keep(f);
    const std::vector<float> kept = from_bits(kept_device->read<std::uint16_t>(), f.problem().dtype);
    for (int part = 0; part < f.scorer().parts; ++part) ASSERT_EQ(check_kept_part(f, kept, part), "");

    const Routed routed = run_route(f, nullptr);
    ASSERT_EQ(check_selection(f, kept, routed), "");
    ASSERT_TRUE(run_route(f, kept_device.get()).same_bits(routed)) << "route_with_centroids";
    constexpr int repeats = 10;
    for (int i = 1; i < repeats; ++i) ASSERT_TRUE(run_route(f, nullptr).same_bits(routed)) << "repeat " << i;

    Problem p = f.problem();
    p.keep_first = true;
    const Routed with_first = run_route(f, p, nullptr);
    ASSERT_EQ(check_keep_first(f, routed, with_first), "");
    ASSERT_TRUE(run_route(f, p, kept_device.get()).same_bits(with_first)) << "keep_first, route_with_centroids";
}

struct Named {
    std::string name;
    Scorer scorer;
};

std::vector<Named> scorers() {
    std::vector<Named> all = {{"Mean", {ScorerKind::mean}}, {"Max", {ScorerKind::max}}, {"Quest", {ScorerKind::quest}}};
    for (const std::int64_t r : {1, 2, 4, 8, 16}) {
        all.push_back({"Submean" + std::to_string(r), {ScorerKind::submean, r}});
    }
    all.push_back({"Random", {ScorerKind::random, 1, 0x123456789abcdefULL}});
    return all;
}

class CudaScorer : public testing::TestWithParam<Named> {
protected:
    void SetUp() override {
        if (const Status s = backend_available(Backend::cuda); !s.ok()) GTEST_SKIP() << s.message;
    }
    /// One or two sequences without padding; the rest of a shape is set by the caller.
    static Shape shape(std::vector<std::int32_t> sq, std::vector<std::int32_t> sk, std::int64_t head_dim,
                       std::int64_t block_size, std::int64_t topk) {
        Shape shape;
        shape.scorer = GetParam().scorer;
        shape.sq = std::move(sq);
        shape.sk = std::move(sk);
        shape.head_dim = head_dim;
        shape.block_size = block_size;
        shape.topk = topk;
        return shape;
    }
    static void expect_all(const std::vector<Shape>& shapes) {
        for (const Shape& shape : shapes) {
            SCOPED_TRACE("head_dim " + std::to_string(shape.head_dim) + ", block_size " +
                         std::to_string(shape.block_size) + ", topk " + std::to_string(shape.topk) + ", dtype " +
                         std::string(to_string(shape.dtype)) + ", seqlen_k " + std::to_string(shape.sk.front()));
            expect_what_the_definition_says(shape);
            if (HasFatalFailure()) return;
        }
    }
};

TEST_P(CudaScorer, EveryHeadDimAndListLength) {
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        for (const std::int64_t d : {32, 64, 96, 128, 256}) {
            for (const std::int64_t k : {8, 16, 40}) {
                Shape one = shape({777}, {777}, d, 16, k);
                one.dtype = dtype;
                expect_all({one});
                if (HasFatalFailure()) return;
            }
        }
    }
}

TEST_P(CudaScorer, EveryTopK) {
    for (const std::int64_t k : {2, 7, 9, 15, 17, 33, 64}) {
        Shape one = shape({1500}, {1500}, 64, 16, k);
        one.heads_k = 2;
        expect_all({one});
        if (HasFatalFailure()) return;
    }
}

TEST_P(CudaScorer, ManySlots) {
    for (const auto& [d, k] : {std::pair<std::int64_t, std::int64_t>{64, 65}, {128, 80}, {256, 80}}) {
        Shape varlen = shape({300, 0, 900}, {333, 0, 1900}, d, 16, k);
        varlen.varlen = true;
        Shape ties = shape({2000}, {2000}, d, 16, k);
        ties.values = Values::integers;
        Shape nan = shape({1700}, {1700}, d, 16, k);
        nan.values = Values::with_nan;
        Shape infinite = nan;
        infinite.values = Values::infinite;
        expect_all({varlen, ties, nan, infinite, shape({40}, {32768}, d, 16, 1024)});
        if (HasFatalFailure()) return;
    }
}

TEST_P(CudaScorer, EveryBlockSize) {
    for (const std::int64_t block : {16, 32, 64, 128, 256, 512, 48, 240, 1024}) {
        expect_all({shape({1700, 1700}, {1700, 1700}, 128, block, 5)});
        if (HasFatalFailure()) return;
    }
}

TEST_P(CudaScorer, Layouts) {
    Shape strides = shape({600, 600}, {700, 700}, 96, 32, 8);
    strides.heads_q = 4;
    strides.heads_k = 2;
    strides.gap = 24;
    Shape grouped = shape({700}, {700}, 128, 32, 8);
    grouped.heads_q = 8;
    Shape bottom_right = shape({100, 100}, {1777, 1777}, 128, 32, 8);
    bottom_right.heads_q = 4;
    std::vector<Shape> all = {shape({1}, {1}, 128, 64, 8), shape({50, 50}, {50, 50}, 64, 128, 8), strides, grouped,
                              bottom_right};
    for (const auto& [block, k] : {std::pair<std::int64_t, std::int64_t>{64, 8}, {16, 16}, {16, 17}}) {
        Shape varlen = shape({300, 0, 1, 700, 64, 2}, {300, 0, 513, 900, 64, 1031}, 128, block, k);
        varlen.heads_q = 4;
        varlen.heads_k = 2;
        varlen.varlen = true;
        varlen.gap = 8;
        all.push_back(varlen);
    }
    expect_all(all);
}

TEST_P(CudaScorer, Ties) {
    for (const std::int64_t k : {8, 16, 64}) {
        Shape integers = shape({2000}, {2000}, 32, 16, k);
        integers.values = Values::integers;
        Shape equal = shape({1200}, {1200}, 128, 16, k);
        equal.values = Values::equal_keys;
        expect_all({integers, equal});
        if (HasFatalFailure()) return;
    }
}

TEST_P(CudaScorer, NaNAndInfinity) {
    for (const Values values : {Values::with_nan, Values::infinite}) {
        std::vector<Shape> all = {shape({600}, {600}, 128, 64, 4)};
        for (const std::int64_t k : {8, 16, 64}) all.push_back(shape({1300}, {1300}, 64, 16, k));
        for (Shape& one : all) one.values = values;
        expect_all(all);
        if (HasFatalFailure()) return;
    }
}

/// Last blocks of one key, of one sub-block and a key, and of all but one key; lists of every kind, several tiles,
/// sequences behind one another, more work than thread blocks.
TEST_P(CudaScorer, NotCausal) {
    constexpr std::int64_t block = 48, blocks = 90;
    std::vector<Shape> all;
    for (const auto& [d, k] : {std::pair<std::int64_t, std::int64_t>{64, 5}, {128, 12}, {128, 40}, {256, 70}}) {
        for (const std::int64_t keys_of_last : {1, 4, 25, 47}) {
            const auto keys = static_cast<std::int32_t>(block * blocks + keys_of_last);
            all.push_back(shape({40}, {keys}, d, block, k));
            all.back().values = Values::opposite;
        }
        for (const Values values : {Values::normal, Values::integers, Values::with_nan, Values::infinite}) {
            all.push_back(shape({300, 0, 60, 1}, {700, 90, 1, 1309}, d, 16, k));
            all.back().values = values;
            all.back().varlen = true;
        }
        all.push_back(shape({100, 100}, {20, 20}, d, 32, k));
        all.push_back(shape({600, 580}, {613, 590}, d, 32, k));
        all.back().heads_q = 24;
        all.back().heads_k = 4;
        all.back().varlen = true;
        all.back().values = Values::opposite;
    }
    for (Shape& one : all) one.causal = false;
    expect_all(all);
}

TEST_P(CudaScorer, ManyTiles) {
    expect_all({shape({150}, {9000}, 128, 16, 8), shape({150}, {9000}, 64, 16, 16), shape({150}, {9000}, 128, 16, 64)});
}

/// More work than thread blocks, so that these go from one item to the next.
TEST_P(CudaScorer, ManyItems) {
    for (const std::int64_t k : {8, 16, 20}) {
        for (const std::int64_t d : {64, 128}) {
            Shape one = shape({1050, 990}, {1050, 990}, d, 32, k);
            one.heads_q = 40;
            one.heads_k = 4;
            one.varlen = true;
            expect_all({one});
            if (HasFatalFailure()) return;
        }
    }
}

/// Up to the highest number that short lists can keep.
TEST_P(CudaScorer, MostColumns) {
    for (const std::int64_t k : {8, 16, 20}) {
        Shape one = shape({40}, {65536}, 32, 16, k);
        one.heads_q = 1;
        expect_all({one});
        if (HasFatalFailure()) return;
    }
}

std::string scorer_name(const testing::TestParamInfo<Named>& info) {
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(All, CudaScorer, testing::ValuesIn(scorers()), scorer_name);

/// Operations that route or summarise on their way give what the operations alone do.
class CudaScorerOperations : public testing::TestWithParam<Named> {
protected:
    void SetUp() override {
        if (const Status s = backend_available(Backend::cuda); !s.ok()) GTEST_SKIP() << s.message;
    }
    static Fixture fixture() {
        Shape shape;
        shape.scorer = GetParam().scorer;
        shape.sq = {300, 700};
        shape.sk = {333, 901};
        shape.heads_k = 2;
        shape.head_dim = 64;
        shape.block_size = 32;
        shape.topk = 5;
        shape.varlen = true;
        return Fixture(shape);
    }
};

TEST_P(CudaScorerOperations, MobaForwardRoutesAlike) {
    const Fixture f = fixture();
    const Problem& p = f.problem();
    const Routed routed = run_route(f, nullptr);
    const DeviceBuffer workspace = workspace_for(Operation::moba_forward, p);
    const DeviceBuffer selection(routed.selection.size() * 4), out(index(p.tokens_q() * p.heads_q * p.head_dim) * 2);
    const DeviceBuffer lse(index(p.tokens_q() * p.heads_q) * 4);
    const Status s = moba_forward(p, f.q(), f.k(), f.k(), {out.get()}, lse.as<float>(), selection.as<std::int32_t>(),
                                  execution_over(workspace));
    ASSERT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "moba_forward");
    EXPECT_TRUE(workspace.canaries_intact() && selection.canaries_intact());
    EXPECT_EQ(selection.read<std::int32_t>(), routed.selection);
}

TEST_P(CudaScorerOperations, ConvolvedKeysAreSummarisedAlike) {
    const Fixture f = fixture();
    const Problem& p = f.problem();
    constexpr int width = 3;
    std::vector<float> weight(index(p.heads_k * p.head_dim * width));
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 0.3f * value_at(Values::normal, 7, i);
    const DeviceBuffer weights(weight.size() * 4);
    weights.write(weight);
    const std::size_t key_bytes = index(p.tokens_k() * p.heads_k * p.head_dim) * 2;
    const std::size_t kept_bytes = index(std::max<std::int64_t>(f.kept_elements(), 8)) * 2;
    const DeviceBuffer out(key_bytes), alone(key_bytes), kept(kept_bytes), kept_alone(kept_bytes);
    const DeviceBuffer workspace = workspace_for(Operation::key_conv_centroids, p);
    const DeviceBuffer other = workspace_for(Operation::centroids, p);
    const Execution execution = execution_over(workspace);
    for (const Status& s :
         {key_conv_centroids(p, f.k(), weights.as<float>(), width, {out.get()}, kept.get(), execution),
          key_conv_forward(p, f.k(), weights.as<float>(), width, {alone.get()}, execution_over(other)),
          compute_centroids(p, {alone.get()}, kept_alone.get(), execution_over(other))}) {
        ASSERT_TRUE(s.ok()) << s.message;
    }
    check_cuda(cudaDeviceSynchronize(), "key_conv_centroids");
    EXPECT_TRUE(out.canaries_intact() && kept.canaries_intact() && workspace.canaries_intact());
    EXPECT_EQ(out.read<std::uint16_t>(), alone.read<std::uint16_t>());
    EXPECT_EQ(kept.read<std::uint16_t>(), kept_alone.read<std::uint16_t>());
}

/// Random scores depend on the seed, and on nothing that queries or keys hold.
TEST(CudaRandomScorer, LooksAtTheSeedAlone) {
    if (const Status s = backend_available(Backend::cuda); !s.ok()) GTEST_SKIP() << s.message;
    Shape shape;
    shape.sq = shape.sk = {1000};
    shape.block_size = 16;
    shape.scorer = {ScorerKind::random, 1, 1};
    const Routed first = run_route(Fixture(shape), nullptr);
    shape.values = Values::with_nan;
    EXPECT_TRUE(run_route(Fixture(shape), nullptr).same_bits(first));
    shape.scorer.seed = 2;
    EXPECT_NE(run_route(Fixture(shape), nullptr).selection, first.selection);
}

INSTANTIATE_TEST_SUITE_P(All, CudaScorerOperations, testing::ValuesIn(scorers()), scorer_name);

}  // namespace
}  // namespace mobalab::kernels
