// The routing half of the CUDA backend on a real device: centroids, key convolution, exact top-k, key-major lists.
// Outputs and scratch start as NaN bytes between canaries; everything runs 20 times and must give the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <thread>

#include "kernels/cuda/lists/lists.h"
#include "kernels/kernels.h"
#include "tests/kernels/conformance/keep_first_row.h"
#include "tests/kernels/conformance/route_row_check.h"
#include "tests/kernels/cuda/cuda_memory.h"
#include "tests/kernels/cuda/cuda_problem.h"

namespace mobalab::kernels {
namespace {

using namespace testing_support;

enum class Values {
    normal,      // sums of uniforms, about unit variance
    integers,    // -2..2: centroids of block sizes that are powers of two and all scores are exact, so ties are real
    equal_keys,  // every key the same: every score ties
    duplicates,  // blocks repeat each other with period 3
    large,       // |q| about 1e4
    common,      // normal but for element 0, which adds 32 to every score: rounded bounds let more of them pass
    far_common,  // the same with 4096: bounds must not be rounded
};

struct Shape {
    std::string name;
    std::vector<std::int32_t> sq, sk;  // one entry per sequence
    std::int64_t heads_q = 2, heads_k = 1, head_dim = 128, block_size = 64, topk = 8;
    DataType dtype = DataType::bf16;
    Values values = Values::normal;
    Centroids centroids = Centroids::input_dtype;
    bool varlen = false;
};

std::string shape_name(const testing::TestParamInfo<Shape>& info) {
    return info.param.name;
}

float value_at(Values values, std::uint64_t seed, std::uint64_t i) {
    const std::uint64_t bits = mix(seed, i);
    if (values == Values::integers || values == Values::duplicates) return static_cast<float>(bits % 5) - 2.0f;
    float sum = -6.0f;
    for (int k = 0; k < 4; ++k) sum += 3.0f * static_cast<float>((bits >> (16 * k)) & 0xffff) / 65536.0f;
    return sum;
}

/// A shape with its tensors on both sides.
class Fixture {
public:
    explicit Fixture(const Shape& shape) : shape_(shape), lengths_(shape.sq, shape.sk) {
        problem_.heads_q = shape.heads_q;
        problem_.heads_k = shape.heads_k;
        problem_.head_dim = shape.head_dim;
        problem_.block_size = shape.block_size;
        problem_.topk = shape.topk;
        problem_.dtype = shape.dtype;
        problem_.centroids = shape.centroids;
        lengths_.describe(problem_, shape.varlen);
        q_ = make(1, problem_.tokens_q(), shape.heads_q, shape.values == Values::large ? 1e4f : 1.0f);
        k_ = make_keys();
        q_device_ = upload(q_);
        k_device_ = upload(k_);
    }

    const Shape& shape() const { return shape_; }
    const Problem& problem() const { return problem_; }
    ConstTensor q() const { return {q_device_->get()}; }
    ConstTensor k() const { return {k_device_->get()}; }
    std::int64_t sequences() const { return problem_.batch; }
    std::int64_t q_begin(std::int64_t b) const { return lengths_.q_begin(b); }
    std::int64_t k_begin(std::int64_t b) const { return lengths_.k_begin(b); }
    std::int64_t sq(std::int64_t b) const { return lengths_.sq(b); }
    std::int64_t sk(std::int64_t b) const { return lengths_.sk(b); }
    std::int64_t blocks_of(std::int64_t keys) const { return (keys + shape_.block_size - 1) / shape_.block_size; }
    std::int64_t block_begin(std::int64_t b) const {
        std::int64_t sum = 0;
        for (std::int64_t i = 0; i < b; ++i) sum += blocks_of(sk(i));
        return sum;
    }
    float q_value(std::int64_t token, std::int64_t head, std::int64_t e) const {
        return from_bits(q_[index((token * shape_.heads_q + head) * shape_.head_dim + e)], shape_.dtype);
    }
    float k_value(std::int64_t token, std::int64_t head, std::int64_t e) const {
        return from_bits(k_[index((token * shape_.heads_k + head) * shape_.head_dim + e)], shape_.dtype);
    }

    static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

private:
    template <typename T>
    static std::unique_ptr<DeviceBuffer> upload(const std::vector<T>& values) {
        auto buffer = std::make_unique<DeviceBuffer>(values.size() * sizeof(T));
        buffer->write(values);
        return buffer;
    }
    std::vector<std::uint16_t> make(std::uint64_t seed, std::int64_t tokens, std::int64_t heads, float scale) const {
        std::vector<std::uint16_t> bits(index(tokens * heads * shape_.head_dim));
        for (std::size_t i = 0; i < bits.size(); ++i) {
            const float common = shape_.values == Values::common ? 32.0f : 4096.0f;
            const bool is_common = (shape_.values == Values::common || shape_.values == Values::far_common) &&
                                   i % index(shape_.head_dim) == 0;
            bits[i] = to_bits(is_common ? std::sqrt(common) : scale * value_at(shape_.values, seed, i), shape_.dtype);
        }
        return bits;
    }
    std::vector<std::uint16_t> make_keys() const {
        std::vector<std::uint16_t> bits = make(2, problem_.tokens_k(), shape_.heads_k, 1.0f);
        const std::int64_t row = shape_.heads_k * shape_.head_dim;
        const std::int64_t period = shape_.values == Values::equal_keys   ? 1
                                    : shape_.values == Values::duplicates ? 3 * shape_.block_size
                                                                          : 0;
        for (std::int64_t b = 0; period > 0 && b < sequences(); ++b) {
            for (std::int64_t t = period; t < sk(b); ++t) {
                std::copy_n(bits.begin() + (k_begin(b) + t % period) * row, row, bits.begin() + (k_begin(b) + t) * row);
            }
        }
        return bits;
    }

    Shape shape_;
    SequenceLengths lengths_;
    Problem problem_;
    std::vector<std::uint16_t> q_, k_;
    std::unique_ptr<DeviceBuffer> q_device_, k_device_;
};

class CudaRoute : public testing::TestWithParam<Shape> {
protected:
    void SetUp() override {
        if (const Status s = backend_available(Backend::cuda); !s.ok()) GTEST_SKIP() << s.message;
    }
};

std::vector<float> read_centroids(const DeviceBuffer& buffer, const Problem& problem) {
    if (problem.centroids == Centroids::fp32) return buffer.read<float>();
    return from_bits(buffer.read<std::uint16_t>(), problem.dtype);
}

std::unique_ptr<DeviceBuffer> device_centroids(const Fixture& f) {
    const Problem& p = f.problem();
    const std::size_t width = p.centroids == Centroids::fp32 ? 4 : 2;
    auto out = std::make_unique<DeviceBuffer>(Fixture::index(p.blocks() * p.heads_k * p.head_dim) * width);
    const DeviceBuffer workspace = workspace_for(Operation::centroids, p);
    const Status s = compute_centroids(p, f.k(), out->get(), execution_over(workspace));
    EXPECT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "compute_centroids");
    EXPECT_TRUE(out->canaries_intact() && workspace.canaries_intact());
    return out;
}

TEST_P(CudaRoute, CentroidsAreTheRoundedMeans) {
    const Fixture f(GetParam());
    const Problem& p = f.problem();
    const std::vector<float> centroids = read_centroids(*device_centroids(f), p);
    const double half_ulp = p.centroids == Centroids::fp32 ? 0x1p-22 : p.dtype == DataType::bf16 ? 0x1p-8 : 0x1p-11;
    for (std::int64_t b = 0; b < f.sequences(); ++b) {
        for (std::int64_t j = 0; j < f.blocks_of(f.sk(b)); ++j) {
            const std::int64_t first = j * p.block_size, last = std::min(first + p.block_size, f.sk(b));
            for (std::int64_t i = 0; i < p.heads_k * p.head_dim; ++i) {
                double sum = 0.0, magnitude = 0.0;
                for (std::int64_t t = first; t < last; ++t) {
                    const double x = f.k_value(f.k_begin(b) + t, i / p.head_dim, i % p.head_dim);
                    sum += x;
                    magnitude += std::fabs(x);
                }
                const auto keys = static_cast<double>(last - first);
                const double mean = sum / keys;
                const double tolerance = half_ulp * std::fabs(mean) + 0x1p-22 * magnitude / keys + 0x1p-25;
                const float got = centroids[Fixture::index((f.block_begin(b) + j) * p.heads_k * p.head_dim + i)];
                ASSERT_TRUE(std::fabs(got - mean) <= tolerance)
                    << "sequence " << b << " block " << j << " element " << i << ": " << got << " for " << mean;
            }
        }
    }
}

struct Routed {
    std::vector<std::int32_t> selection;
    std::vector<float> scores;
};

Routed run_route(const Fixture& f, const Problem& p, const DeviceBuffer* centroids) {
    const std::size_t entries = Fixture::index(p.heads_q * p.tokens_q() * p.routed());
    const DeviceBuffer selection(entries * 4), scores(entries * 4);
    const Operation operation = centroids != nullptr ? Operation::route_with_centroids : Operation::route;
    const DeviceBuffer workspace = workspace_for(operation, p);
    const Status s =
        centroids != nullptr
            ? route_with_centroids(p, f.q(), centroids->get(), selection.as<std::int32_t>(), scores.as<float>(),
                                   execution_over(workspace))
            : route(p, f.q(), f.k(), selection.as<std::int32_t>(), scores.as<float>(), execution_over(workspace));
    EXPECT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "route");
    EXPECT_TRUE(selection.canaries_intact() && scores.canaries_intact() && workspace.canaries_intact());
    return {selection.read<std::int32_t>(), scores.read<float>()};
}

Routed run_route(const Fixture& f, const DeviceBuffer* centroids) {
    return run_route(f, f.problem(), centroids);
}

/// The same with keep_first: block 0 in front of what was there without.
void expect_block_0_in_front(const Fixture& f, const Routed& plain) {
    Problem p = f.problem();
    p.keep_first = true;
    const Routed kept = run_route(f, p, nullptr);
    for (std::int64_t head = 0; head < p.heads_q; ++head) {
        for (std::int64_t b = 0; b < f.sequences(); ++b) {
            for (std::int64_t r = 0; r < f.sq(b); ++r) {
                const KeepFirstRow check = {Fixture::index(p.routed()), r + f.sk(b) - f.sq(b) >= p.block_size};
                const std::int64_t at = (head * p.tokens_q() + f.q_begin(b) + r) * p.routed();
                ASSERT_EQ(check(plain.selection.data() + at, plain.scores.data() + at, kept.selection.data() + at,
                                kept.scores.data() + at),
                          "")
                    << "keep_first: head " << head << " sequence " << b << " row " << r;
            }
        }
    }
    for (int i = 0; i < 3; ++i) ASSERT_EQ(run_route(f, p, nullptr).selection, kept.selection) << "repeat " << i;
}

std::string check_head(const Fixture& f, const std::vector<float>& centroids, const Routed& routed, std::int64_t head) {
    const Problem& p = f.problem();
    const Values values = f.shape().values;
    const bool exact = values == Values::integers || values == Values::duplicates;
    const RowCheck check = {p.head_dim, p.routed(), exact, p.centroids == Centroids::fp32};
    const std::int64_t key_head = head / (p.heads_q / p.heads_k);
    std::vector<float> q(Fixture::index(p.head_dim));
    for (std::int64_t b = 0; b < f.sequences(); ++b) {
        const auto centroid = [&](std::int64_t j) {
            return centroids.data() + ((f.block_begin(b) + j) * p.heads_k + key_head) * p.head_dim;
        };
        for (std::int64_t r = 0; r < f.sq(b); ++r) {
            const std::int64_t token = f.q_begin(b) + r;
            for (std::int64_t e = 0; e < p.head_dim; ++e) q[Fixture::index(e)] = f.q_value(token, head, e);
            const std::int64_t at = (head * p.tokens_q() + token) * p.routed();
            const std::int64_t candidates = (r + f.sk(b) - f.sq(b)) / p.block_size;
            std::string wrong =
                check(q.data(), candidates, centroid, routed.selection.data() + at, routed.scores.data() + at);
            if (values == Values::equal_keys && candidates > 0 &&
                routed.selection[Fixture::index(at)] != candidates - 1) {
                wrong = "of equal blocks the last must win";
            }
            if (!wrong.empty()) {
                return "head " + std::to_string(head) + " sequence " + std::to_string(b) + " row " + std::to_string(r) +
                       ": " + wrong;
            }
        }
    }
    return {};
}

void expect_exact_top_k(const Shape& shape) {
    const Fixture f(shape);
    const Problem& p = f.problem();
    const auto centroids_device = device_centroids(f);
    const std::vector<float> centroids = read_centroids(*centroids_device, p);
    const Routed routed = run_route(f, nullptr);
    std::vector<std::string> wrong(Fixture::index(p.heads_q));
    std::vector<std::thread> threads;
    for (std::int64_t head = 0; head < p.heads_q; ++head) {
        threads.emplace_back([&, head] { wrong[Fixture::index(head)] = check_head(f, centroids, routed, head); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& text : wrong) ASSERT_EQ(text, "");

    const Routed again = run_route(f, centroids_device.get());
    EXPECT_EQ(again.selection, routed.selection) << "route_with_centroids";
    constexpr int repeats = 20;
    for (int i = 1; i < repeats; ++i) {
        const Routed repeated = run_route(f, nullptr);
        ASSERT_EQ(repeated.selection, routed.selection) << "repeat " << i;
        ASSERT_EQ(std::memcmp(repeated.scores.data(), routed.scores.data(), routed.scores.size() * 4), 0)
            << "repeat " << i;
    }
    expect_block_0_in_front(f, routed);
}

TEST_P(CudaRoute, SelectionIsTheExactTopK) {
    expect_exact_top_k(GetParam());
}

/// Shapes that only the selection needs: more work than thread blocks, and the most blocks there may be.
class CudaLargeRoute : public CudaRoute {};

TEST_P(CudaLargeRoute, SelectionIsTheExactTopK) {
    expect_exact_top_k(GetParam());
}

/// The lists of one chunk, on the host.
struct HostLists {
    cuda::ListChunk chunk;
    std::vector<std::uint32_t> entries;
    std::vector<std::int32_t> positions;
    std::vector<cuda::ListItem> items;
    std::vector<std::int32_t> window_items;

    bool operator==(const HostLists& other) const {
        return positions == other.positions && window_items == other.window_items &&
               items.size() == other.items.size() &&
               std::memcmp(items.data(), other.items.data(), items.size() * sizeof(cuda::ListItem)) == 0;
    }
};

HostLists run_lists(const cuda::ListPlan& plan, std::int32_t chunk, const DeviceBuffer& selection,
                    const DeviceBuffer& workspace) {
    workspace.poison();
    cuda::ListView view;
    const Status s = cuda::build_lists(plan, chunk, selection.as<std::int32_t>(), workspace.get(), nullptr, view);
    EXPECT_TRUE(s.ok()) << s.message;
    check_cuda(cudaDeviceSynchronize(), "build_lists");
    EXPECT_TRUE(workspace.canaries_intact());
    HostLists lists;
    lists.chunk = view.chunk;
    std::int32_t count = -1;
    check_cuda(cudaMemcpy(&count, view.item_count, 4, cudaMemcpyDeviceToHost), "item_count");
    if (count < 0 || count > plan.items_max) throw std::runtime_error("item_count = " + std::to_string(count));
    lists.items.resize(Fixture::index(count));
    lists.window_items.resize(Fixture::index(plan.windows() + 1));
    lists.entries.resize(Fixture::index(plan.rows));
    lists.positions.resize(
        Fixture::index(static_cast<std::int64_t>(view.chunk.head_count) * view.chunk.token_count * plan.slots));
    const auto get = [](void* to, const void* from, std::size_t bytes) {
        check_cuda(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
    };
    get(lists.items.data(), view.items, lists.items.size() * sizeof(cuda::ListItem));
    get(lists.entries.data(), view.entries, lists.entries.size() * 4);
    get(lists.positions.data(), view.positions, lists.positions.size() * 4);
    get(lists.window_items.data(), view.window_items, lists.window_items.size() * 4);
    return lists;
}

/// Key: (sequence, head, list); value: query -> mask.
using Expected = std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::map<std::int64_t, std::uint32_t>>;

Expected expected_lists(const Fixture& f, const cuda::ListPlan& plan, const cuda::ListChunk& chunk,
                        const std::vector<std::int32_t>& selection) {
    const Problem& p = f.problem();
    Expected lists;
    for (std::int64_t head = chunk.head_begin; head < chunk.head_begin + chunk.head_count; ++head) {
        for (std::int64_t b = 0; b < f.sequences(); ++b) {
            for (std::int64_t r = 0; r < f.sq(b); ++r) {
                const std::int64_t token = f.q_begin(b) + r;
                if (token < chunk.token_begin || token >= chunk.token_begin + chunk.token_count) continue;
                for (std::int64_t s = 0; s < p.routed(); ++s) {
                    const std::int64_t block =
                        selection[Fixture::index((head * p.tokens_q() + token) * p.routed() + s)];
                    if (block < 0) continue;
                    lists[{b, head, block / plan.blocks_per_list}][r] |= 1u << (block % plan.blocks_per_list);
                }
            }
        }
    }
    return lists;
}

/// Every item holds queries and rows of its window alone.
void check_windows(const Fixture& f, const cuda::ListPlan& plan, const HostLists& lists) {
    ASSERT_EQ(lists.window_items.front(), 0);
    ASSERT_EQ(lists.window_items.back(), static_cast<std::int32_t>(lists.items.size()));
    ASSERT_TRUE(std::is_sorted(lists.window_items.begin(), lists.window_items.end()));
    for (std::int32_t window = 0; window < plan.windows(); ++window) {
        const std::int64_t head = lists.chunk.head_begin + window / plan.token_windows * plan.heads_per_window;
        const std::int64_t token = lists.chunk.token_begin + window % plan.token_windows * plan.tokens_per_window;
        const auto inside = [&](const cuda::ListItem& item, std::int64_t row) {
            const std::int64_t at = f.q_begin(item.sequence) + row;
            return at >= token && at < token + plan.tokens_per_window;
        };
        for (std::int32_t i = lists.window_items[Fixture::index(window)];
             i < lists.window_items[Fixture::index(window + 1)]; ++i) {
            const cuda::ListItem& item = lists.items.at(Fixture::index(i));
            ASSERT_TRUE(item.head >= head && item.head < head + plan.heads_per_window) << "window " << window;
            if (item.own_begin < item.own_end) {
                ASSERT_TRUE(inside(item, item.own_begin) && inside(item, item.own_end - 1)) << "window " << window;
            }
            if (item.rows == 0) continue;
            ASSERT_GE(item.first_row, window * plan.rows_per_window);
            ASSERT_LE(item.first_row + item.rows, (window + 1) * plan.rows_per_window);
            for (std::int32_t r = 0; r < item.rows; ++r) {
                const std::uint32_t entry = lists.entries.at(Fixture::index(item.first_row + r));
                ASSERT_TRUE(inside(item, cuda::entry_query(entry))) << "window " << window;
            }
        }
    }
}

/// Takes what the items cover out of `expected`, checking rows and positions; own queries are counted per (head,
/// token).
void check_items(const Fixture& f, const cuda::ListPlan& plan, const HostLists& lists, Expected& expected,
                 std::map<std::pair<std::int64_t, std::int64_t>, int>& own) {
    const Problem& p = f.problem();
    for (const cuda::ListItem& item : lists.items) {
        ASSERT_EQ(item.first_row % cuda::list_tile_rows, 0);
        const int tiles = (item.rows + 63) / 64 + (item.own_end - item.own_begin + 63) / 64;
        ASSERT_GT(tiles, 0);
        ASSERT_LE(tiles, plan.tiles_per_item);
        for (std::int64_t r = item.own_begin; r < item.own_end; ++r) {
            const std::int64_t position = r + f.sk(item.sequence) - f.sq(item.sequence);
            ASSERT_EQ(position / plan.keys_per_list, item.list);
            ++own[{item.head, f.q_begin(item.sequence) + r}];
        }
        if (item.rows == 0) continue;
        auto& list = expected[{item.sequence, item.head, item.list}];
        const int padded = (item.rows + 63) / 64 * 64;
        std::int64_t before = -1;
        for (int i = 0; i < padded; ++i) {
            const std::int64_t row = item.first_row + i;
            const std::uint32_t entry = lists.entries.at(Fixture::index(row));
            if (i >= item.rows) {
                ASSERT_EQ(entry, cuda::list_padding);
                continue;
            }
            const std::int64_t query = cuda::entry_query(entry);
            ASSERT_GT(query, before) << "entries ascend";
            before = query;
            const auto found = list.find(query);
            ASSERT_TRUE(found != list.end()) << "query " << query << " did not select list " << item.list;
            ASSERT_EQ(found->second, cuda::entry_mask(entry));
            list.erase(found);
            const std::int64_t token = f.q_begin(item.sequence) + query - lists.chunk.token_begin;
            const std::int64_t at =
                ((item.head - lists.chunk.head_begin) * lists.chunk.token_count + token) * p.routed();
            const auto first = lists.positions.begin() + at, last = first + p.routed();
            ASSERT_EQ(std::count(first, last, row), 1) << "position of row " << row;
        }
    }
}

TEST_P(CudaRoute, ListsHoldEverySelectedPairOnce) {
    const Fixture f(GetParam());
    const Problem& p = f.problem();
    Routed routed = run_route(f, nullptr);
    const DeviceBuffer selection(routed.selection.size() * 4);
    selection.write(routed.selection);
    const std::int64_t all = p.tokens_q() * p.routed();
    constexpr std::int64_t no_limit = std::int64_t{1} << 30;
    constexpr std::int64_t widest = cuda::widest_shared_list;
    // A last chunk has fewer heads than the others where all key heads but one fit.
    const cuda::ListPlan of_all = cuda::make_list_plan(p, {no_limit, 4, widest, 100});
    const std::int64_t all_but_one = of_all.rows_per_head * of_all.token_windows * (p.heads_q / p.heads_k) *
                                     std::max<std::int64_t>(p.heads_k - 1, 1);
    if (p.heads_k > 2) {
        const cuda::ListPlan plan = cuda::make_list_plan(p, {all_but_one, 4, widest, 100});
        ASSERT_LT(plan.chunk(plan.chunks() - 1).head_count, plan.heads_per_chunk);
    }
    for (const cuda::ListOptions& options : {cuda::ListOptions{no_limit, 4, widest, 0},
                                             {all * 3 / 2 + 64, 4, widest, 0},
                                             {4096, 4, widest, 0},
                                             {no_limit, 4, widest, p.seqlen_q},
                                             {no_limit, 4, widest, 100},
                                             {4096, 4, widest, 300},
                                             {all_but_one, 4, widest, 100},
                                             {no_limit, 4, 64, 0},
                                             {4096, 4, 0, 300}}) {
        SCOPED_TRACE("max_rows " + std::to_string(options.max_rows) + ", keys shared " +
                     std::to_string(options.shared_list) + ", window " + std::to_string(options.window));
        const cuda::ListPlan plan = cuda::make_list_plan(p, options);
        const DeviceBuffer workspace(cuda::list_workspace_size(plan));
        std::map<std::pair<std::int64_t, std::int64_t>, int> own;
        for (std::int32_t c = 0; c < plan.chunks(); ++c) {
            SCOPED_TRACE("chunk " + std::to_string(c));
            const HostLists lists = run_lists(plan, c, selection, workspace);
            Expected expected = expected_lists(f, plan, lists.chunk, routed.selection);
            std::int64_t pairs = 0;
            for (const auto& [key, queries] : expected) pairs += static_cast<std::int64_t>(queries.size());
            ASSERT_EQ(std::count_if(lists.positions.begin(), lists.positions.end(), [](int row) { return row >= 0; }),
                      pairs);
            ASSERT_NO_FATAL_FAILURE(check_windows(f, plan, lists));
            ASSERT_NO_FATAL_FAILURE(check_items(f, plan, lists, expected, own));
            for (const auto& [key, queries] : expected) ASSERT_TRUE(queries.empty()) << "list " << std::get<2>(key);
            for (int i = 0; i < 3; ++i)
                ASSERT_TRUE(run_lists(plan, c, selection, workspace) == lists) << "repeat " << i;
        }
        ASSERT_EQ(static_cast<std::int64_t>(own.size()), p.heads_q * p.tokens_q());
        for (const auto& [key, times] : own) ASSERT_EQ(times, 1);
    }
}

TEST_P(CudaRoute, KeyConvolution) {
    const Fixture f(GetParam());
    const Problem& p = f.problem();
    const std::int64_t channels = p.heads_k * p.head_dim;
    for (const int width : {1, 3, 5, 8}) {
        std::vector<float> weight(Fixture::index(channels * width));
        for (std::size_t i = 0; i < weight.size(); ++i) weight[i] = 0.3f * value_at(Values::normal, 7, i);
        const DeviceBuffer weights(weight.size() * 4), out(Fixture::index(p.tokens_k() * channels) * 2);
        weights.write(weight);
        Execution execution;
        execution.backend = Backend::cuda;
        const Status s = key_conv_forward(p, f.k(), weights.as<float>(), width, {out.get()}, execution);
        ASSERT_TRUE(s.ok()) << s.message;
        check_cuda(cudaDeviceSynchronize(), "key_conv_forward");
        ASSERT_TRUE(out.canaries_intact());
        const std::vector<float> got = from_bits(out.read<std::uint16_t>(), p.dtype);
        const double half_ulp = p.dtype == DataType::bf16 ? 0x1p-8 : 0x1p-11;
        for (std::int64_t b = 0; b < f.sequences(); ++b) {
            for (std::int64_t t = 0; t < f.sk(b); ++t) {
                for (std::int64_t c = 0; c < channels; ++c) {
                    double z = 0.0;
                    for (std::int64_t l = 0; l < width && l <= t; ++l) {
                        z += static_cast<double>(weight[Fixture::index(c * width + l)]) *
                             f.k_value(f.k_begin(b) + t - l, c / p.head_dim, c % p.head_dim);
                    }
                    const double x = f.k_value(f.k_begin(b) + t, c / p.head_dim, c % p.head_dim);
                    const double want = x + z / (1.0 + std::exp(-z));
                    const float value = got[Fixture::index((f.k_begin(b) + t) * channels + c)];
                    ASSERT_TRUE(std::fabs(value - want) <= half_ulp * std::fabs(want) + 1e-5)
                        << "width " << width << " token " << t << " channel " << c << ": " << value << " for " << want;
                }
            }
        }
    }
}

std::vector<Shape> shapes() {
    std::vector<Shape> all;
    const auto add = [&](Shape shape) { all.push_back(std::move(shape)); };
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {
        const std::string suffix = dtype == DataType::bf16 ? "Bf16" : "Fp16";
        for (const std::int64_t d : {32, 64, 96, 128, 256}) {
            add({"HeadDim" + std::to_string(d) + suffix, {777}, {777}, 2, 1, d, 16, 8, dtype});
        }
        for (const std::int64_t k : {2, 5, 16, 17, 33, 64}) {
            add({"TopK" + std::to_string(k) + suffix, {1500}, {1500}, 2, 2, 64, 16, k, dtype});
        }
    }
    for (const std::int64_t block : {16, 32, 64, 128, 256, 512, 20, 48, 96, 100, 130, 384, 1000, 1024}) {
        add({"Block" + std::to_string(block), {3000, 3000}, {3000, 3000}, 4, 2, 128, block, 8});
    }
    for (const std::int64_t block : {1, 2, 3, 5, 7, 12, 14, 15}) {  // rows of a warp have many numbers of candidates
        for (const std::int64_t k : {4, 16, 64}) {
            const std::string name = "SmallBlock" + std::to_string(block) + "TopK" + std::to_string(k);
            add({name, {700, 700}, {700, 700}, 2, 1, 64, block, k, DataType::fp16});
        }
    }
    for (const std::int64_t d : {8, 24, 40, 72, 120, 136, 160, 200, 248}) {
        add({"OddHeadDim" + std::to_string(d), {600}, {600}, 2, 1, d, 16, 8});
    }
    // More lists than shared memory has tables for: 7500 and 8192 of 8 blocks.
    for (const std::int64_t k : {3, 12, 20, 64}) {
        add({"ListsInRangesTopK" + std::to_string(k), {150}, {60000}, 2, 1, 32, 1, k, DataType::fp16});
    }
    for (const DataType dtype : {DataType::bf16, DataType::fp16}) {  // scores that are stored
        const std::string suffix = dtype == DataType::bf16 ? "Bf16" : "Fp16";
        for (const std::int64_t d : {32, 128, 192, 256}) {
            add({"ManySlotsHeadDim" + std::to_string(d) + suffix, {777}, {777}, 2, 1, d, 4, 100, dtype});
        }
        for (const std::int64_t k : {65, 66, 129, 300, 1024}) {
            add({"ManySlotsTopK" + std::to_string(k) + suffix, {1500}, {1500}, 2, 2, 64, 1, k, dtype});
        }
    }
    for (const std::int64_t block : {3, 16, 40}) {
        const std::string name = "ManySlotsBlock" + std::to_string(block);
        add({name, {300, 300}, {9000, 9000}, 4, 2, 64, block, 100, DataType::fp16});
    }
    add({"ManySlotsListsInRanges", {60}, {60000}, 2, 1, 32, 1, 70, DataType::fp16});
    add({"ManySlotsOfAllBlocks", {500}, {1000}, 2, 1, 64, 3, 400});
    add({"ManySlotsTies", {2000}, {2000}, 2, 1, 32, 2, 300, DataType::fp16, Values::integers});
    add({"ManySlotsDuplicates", {1000}, {1000}, 2, 1, 64, 2, 100, DataType::bf16, Values::duplicates});
    add({"ManySlotsEqualKeys", {900}, {900}, 2, 1, 64, 2, 200, DataType::bf16, Values::equal_keys});
    add({"ManySlotsFullPrecision", {900}, {900}, 2, 1, 128, 4, 80, DataType::bf16, Values::normal, Centroids::fp32});
    add({"ManySlotsVarlen",
         {300, 0, 1, 700, 64},
         {300, 0, 513, 900, 64},
         4,
         2,
         64,
         2,
         128,
         DataType::bf16,
         Values::normal,
         Centroids::input_dtype,
         true});
    add({"ListsInRangesVarlen",
         {90, 0, 40, 3},
         {65536, 0, 300, 58000},
         2,
         2,
         32,
         1,
         8,
         DataType::bf16,
         Values::normal,
         Centroids::input_dtype,
         true});
    add({"Block4096", {300, 300}, {9000, 9000}, 2, 1, 64, 4096, 8});
    add({"OwnQueriesOfSeveralItems", {4500}, {4500}, 2, 1, 32, 2048, 3});
    add({"SmallBlockTies", {900}, {900}, 2, 1, 32, 2, 16, DataType::bf16, Values::integers});
    add({"SmallBlockEqualKeys", {900}, {900}, 2, 1, 64, 3, 8, DataType::bf16, Values::equal_keys});
    add({"Block512HeadDim96", {1500}, {1500}, 2, 1, 96, 512, 3});
    add({"WideTopK64", {1100}, {1100}, 2, 1, 256, 16, 64});
    add({"WideTopK16", {1100}, {1100}, 2, 1, 256, 16, 16});
    add({"ManyTiles", {9000}, {9000}, 1, 1, 128, 16, 8});
    add({"ManyTilesTopK16", {9000}, {9000}, 1, 1, 64, 16, 16});
    add({"ManyTilesTopK64", {6000}, {6000}, 1, 1, 128, 16, 64});
    add({"OneToken", {1}, {1}, 1, 1, 128, 64, 8});
    add({"ShorterThanABlock", {50, 50}, {50, 50}, 2, 1, 64, 128, 8});
    add({"BottomRight", {100, 100}, {1777, 1777}, 4, 1, 128, 32, 8});
    add({"FewerQueriesLongTopK", {3}, {2500}, 8, 2, 128, 16, 64});
    add({"Varlen",
         {300, 0, 1, 700, 64},
         {300, 0, 513, 900, 64},
         4,
         2,
         128,
         64,
         8,
         DataType::bf16,
         Values::normal,
         Centroids::input_dtype,
         true});
    add({"VarlenSmallBlocks",
         {129, 1000, 2},
         {129, 1000, 1030},
         2,
         1,
         64,
         16,
         17,
         DataType::fp16,
         Values::normal,
         Centroids::input_dtype,
         true});
    add({"GroupedQueries", {1000}, {1000}, 8, 1, 128, 32, 8});
    add({"ThreeKeyHeads", {700}, {700}, 6, 3, 64, 16, 8});
    add({"ThreeKeyHeadsOfSequences", {130, 130, 130}, {400, 400, 400}, 3, 3, 32, 32, 5});
    add({"Ties", {2000}, {2000}, 2, 1, 32, 16, 8, DataType::bf16, Values::integers});
    add({"TiesTopK16", {2000}, {2000}, 2, 1, 64, 16, 16, DataType::fp16, Values::integers});
    add({"TiesTopK64", {4000}, {4000}, 2, 1, 32, 16, 64, DataType::fp16, Values::integers});
    add({"Duplicates", {2000}, {2000}, 2, 1, 64, 16, 8, DataType::bf16, Values::duplicates});
    add({"DuplicatesTopK64", {3000}, {3000}, 2, 1, 64, 16, 64, DataType::fp16, Values::duplicates});
    add({"EqualKeys", {3000}, {3000}, 2, 1, 128, 16, 8, DataType::bf16, Values::equal_keys});
    add({"LargeQueries", {1000}, {1000}, 2, 1, 128, 32, 8, DataType::bf16, Values::large});
    add({"CommonPart", {5000}, {5000}, 2, 1, 64, 16, 8, DataType::bf16, Values::common});
    add({"CommonPartTopK16", {5000}, {5000}, 2, 1, 64, 16, 16, DataType::fp16, Values::common});
    add({"FarCommonPart", {5000}, {5000}, 2, 1, 32, 16, 8, DataType::bf16, Values::far_common});
    add({"FullPrecisionCentroids", {1500}, {1500}, 2, 1, 128, 16, 8, DataType::bf16, Values::normal, Centroids::fp32});
    add({"FullPrecisionVarlen",
         {200, 901},
         {300, 901},
         2,
         1,
         96,
         16,
         17,
         DataType::fp16,
         Values::normal,
         Centroids::fp32,
         true});
    return all;
}

std::vector<Shape> large_shapes() {
    std::vector<Shape> all;
    const auto add_many_items = [&](const std::string& name, std::int64_t d, std::int64_t k, Centroids centroids) {
        Shape shape = {name, {2050, 1990}, {2050, 1990}, d == 256 ? 20 : 40, 4, d, 64, k};
        shape.varlen = true;
        shape.centroids = centroids;
        all.push_back(std::move(shape));
    };
    // A thread block goes from one item to the next, at every list size and head_dim.
    for (const std::int64_t k : {8, 16, 20}) {
        for (const std::int64_t d : {64, 128, 256}) {
            const std::string name = "TopK" + std::to_string(k) + "HeadDim" + std::to_string(d);
            add_many_items("ManyItems" + name, d, k, Centroids::input_dtype);
        }
    }
    add_many_items("ManyItemsFullPrecision", 128, 8, Centroids::fp32);
    all.push_back({"MostBlocks", {40}, {1048576}, 1, 1, 32, 16, 8});
    all.push_back({"MostBlocksOfOneKey", {40}, {65536}, 1, 1, 32, 1, 64});
    all.push_back({"ManySlotsOfMostBlocks", {40}, {65536}, 1, 1, 32, 1, 1024});
    all.push_back({"ManySlotsInWindowsOfScores", {1500}, {60000}, 3, 1, 32, 1, 65});
    return all;
}

INSTANTIATE_TEST_SUITE_P(Large, CudaLargeRoute, testing::ValuesIn(large_shapes()), shape_name);
INSTANTIATE_TEST_SUITE_P(Shapes, CudaRoute, testing::ValuesIn(shapes()), shape_name);

}  // namespace
}  // namespace mobalab::kernels
