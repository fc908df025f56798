// Times a decoding step of the CUDA backend and its pieces, replayed as CUDA graphs over queries that rotate, beside
// the bytes that it must read: summaries of all candidates, and keys and values of every block that some row of a key
// head keeps, once. Outputs are checked first: rows at random against double precision over their selection, and
// selections against those of route_with_centroids().
//
//   cuda_decode_bench                     the table of tests/perf/NOTES_cuda_decode.md
//   cuda_decode_bench NAME ...            some of its cases
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/decode.h"
#include "tests/perf/cuda_bench.cuh"

namespace mobalab::kernels {
namespace {

using namespace bench_support;
using testing_support::check_cuda;

struct Setting {
    const char* name;
    std::int64_t batch, keys, heads_q, heads_k, d, block, topk, page_size = 0;
    ScorerKind scorer = ScorerKind::mean;
    std::int64_t d_v = 0;  ///< head_dim_v
};

constexpr Setting settings[] = {
    {"64K", 8, 65536, 32, 8, 128, 64, 16},
    {"64K-page16", 8, 65536, 32, 8, 128, 64, 16, 16},
    {"64K-page64", 8, 65536, 32, 8, 128, 64, 16, 64},
    {"64K-quest", 8, 65536, 32, 8, 128, 64, 16, 0, ScorerKind::quest},
    {"64K-B128-k8", 8, 65536, 32, 8, 128, 128, 8},
    {"64K-batch1", 1, 65536, 32, 8, 128, 64, 16},
    {"64K-batch4-mha", 4, 65537, 16, 16, 128, 64, 16},
    {"256K-batch2", 2, 262144, 32, 8, 128, 64, 16},
    {"64K-B512-k12", 2, 65536, 32, 8, 128, 512, 12},
    {"8K-batch32", 32, 8192, 32, 8, 128, 64, 16},
    {"64K-d192", 8, 65536, 32, 8, 192, 64, 16},
    {"64K-d192-v128", 8, 65536, 32, 8, 192, 64, 16, 0, ScorerKind::mean, 128},
    {"64K-d128-v64", 8, 65536, 32, 8, 128, 64, 16, 0, ScorerKind::mean, 64},
};
constexpr int rotation = 4;  // sets of queries, whose blocks together do not fit L2

template <typename T>
struct DeviceArray {
    explicit DeviceArray(std::int64_t size) : count(std::max<std::int64_t>(size, 1)) {
        check_cuda(cudaMalloc(&data, static_cast<std::size_t>(count) * sizeof(T)), "cudaMalloc");
    }
    ~DeviceArray() { cudaFree(data); }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    void upload(const std::vector<T>& from) {
        check_cuda(cudaMemcpy(data, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
    }
    std::vector<T> download(std::int64_t first, std::int64_t size) const {
        std::vector<T> to(static_cast<std::size_t>(size));
        check_cuda(cudaMemcpy(to.data(), data + first, to.size() * sizeof(T), cudaMemcpyDeviceToHost), "download");
        return to;
    }
    T* data = nullptr;
    std::int64_t count;
};

/// A cache of normal numbers, queries, and everything a step writes.
struct Step {
    Problem p;
    Cache cache;
    DeviceArray<std::int32_t> lengths, table, selection;
    DeviceArray<__nv_bfloat16> k, v, q, out, centroids;
    DeviceArray<float> lse;
    DeviceArray<unsigned char> workspace;
    std::vector<std::int32_t> host_table;
    Execution execution;
    cudaStream_t stream = nullptr;

    explicit Step(const Setting& s)
        : p(problem_of(s)),
          lengths(s.batch),
          table(s.page_size > 0 ? s.batch * ((s.keys + s.page_size - 1) / s.page_size) : 0),
          selection(rotation * rows() * p.routed()),
          k(stored(s) * p.head_dim),
          v(stored(s) * p.value_dim()),
          q(rotation * rows() * p.head_dim),
          out(rotation * rows() * p.value_dim()),
          centroids(p.centroid_elements()),
          lse(rotation * rows()),
          workspace(static_cast<std::int64_t>(workspace_size(Operation::moba_decode, p, Backend::cuda))) {
        check_cuda(cudaStreamCreate(&stream), "stream");
        execution.backend = Backend::cuda;
        execution.stream = stream;
        execution.workspace = workspace.data;
        execution.workspace_bytes = static_cast<std::size_t>(workspace.count);
        lengths.upload(std::vector<std::int32_t>(static_cast<std::size_t>(s.batch), static_cast<std::int32_t>(s.keys)));
        cache.lengths = lengths.data;
        if (s.page_size > 0) {
            host_table.resize(static_cast<std::size_t>(table.count));
            std::iota(host_table.begin(), host_table.end(), 0);
            std::shuffle(host_table.begin(), host_table.end(), std::mt19937(5));
            table.upload(host_table);
            cache.block_table = table.data;
            cache.pages = table.count;
            cache.page_size = s.page_size;
        }
        std::uint64_t seed = 1;
        for (const auto* array : {&k, &v, &q}) fill_normal<<<1024, 256>>>(array->data, array->count, seed++);
        check_cuda(cudaDeviceSynchronize(), "normal numbers");
        must(append_centroids(p, cache, {k.data}, p.seqlen_k, centroids.data, execution));
    }

    std::int64_t rows() const { return p.batch * p.heads_q; }
    ConstTensor queries(int i) const { return {q.data + i * rows() * p.head_dim}; }
    std::int32_t* selected(int i) const { return selection.data + i * rows() * p.routed(); }
    void append() const { must(append_centroids(p, cache, {k.data}, 1, centroids.data, execution)); }
    void route(int i) const {
        must(decode_route(p, cache, queries(i), centroids.data, selected(i), nullptr, execution));
    }
    void attend(int i) const {
        must(decode_attention(p, cache, queries(i), {k.data}, {v.data}, selected(i),
                              Tensor{out.data + i * rows() * p.value_dim()}, lse.data + i * rows(), execution));
    }
    void step(int i) const {
        must(moba_decode(p, cache, queries(i), {k.data}, {v.data}, 1, centroids.data,
                         Tensor{out.data + i * rows() * p.value_dim()}, lse.data + i * rows(), selected(i), execution));
    }

    /// Which row of keys and values, of head_dim and head_dim_v elements, one sequence and head has at a position.
    std::int64_t row_of(std::int64_t b, std::int64_t t, std::int64_t head) const {
        std::int64_t row = b * p.seqlen_k + t;
        if (!host_table.empty()) {
            const std::int64_t column = b * cache.pages_per_sequence(p.seqlen_k) + t / cache.page_size;
            row = host_table[static_cast<std::size_t>(column)] * cache.page_size + t % cache.page_size;
        }
        return row * p.heads_k + head;
    }

private:
    static Problem problem_of(const Setting& s) {
        Problem p;
        p.batch = s.batch;
        p.seqlen_q = 1;
        p.seqlen_k = s.keys;
        p.heads_q = s.heads_q;
        p.heads_k = s.heads_k;
        p.head_dim = s.d;
        p.head_dim_v = s.d_v;
        p.block_size = s.block;
        p.topk = s.topk;
        p.dtype = DataType::bf16;
        p.scorer.kind = s.scorer;
        return p;
    }
    /// Rows of keys.
    static std::int64_t stored(const Setting& s) {
        const std::int64_t pages = s.page_size > 0 ? (s.keys + s.page_size - 1) / s.page_size : 1;
        return s.batch * pages * (s.page_size > 0 ? s.page_size : s.keys) * s.heads_k;
    }
};

/// The output of one row of one set against double precision over its selection.
double row_error(const Step& s, int set, std::int64_t row) {
    const Problem& p = s.p;
    const std::int64_t head = row / p.batch, b = row % p.batch, head_k = head / (p.heads_q / p.heads_k);
    const std::int64_t d = p.head_dim, d_v = p.value_dim();
    const auto slots = s.selection.download((set * s.rows() + row) * p.routed(), p.routed());
    const std::int64_t at = set * s.rows() + b * p.heads_q + head;
    const auto query = s.q.download(at * d, d), got = s.out.download(at * d_v, d_v);
    std::vector<std::int64_t> blocks(slots.begin(), slots.end());
    blocks.push_back((p.seqlen_k - 1) / p.block_size);
    std::vector<double> scores;
    std::vector<std::vector<__nv_bfloat16>> values;
    for (const std::int64_t block : blocks) {
        if (block < 0) continue;
        for (std::int64_t t = block * p.block_size; t < std::min((block + 1) * p.block_size, p.seqlen_k); ++t) {
            const std::int64_t at_key = s.row_of(b, t, head_k);
            const auto key = s.k.download(at_key * d, d);
            double score = 0.0;
            for (std::size_t e = 0; e < key.size(); ++e) {
                score +=
                    static_cast<double>(__bfloat162float(query[e])) * static_cast<double>(__bfloat162float(key[e]));
            }
            scores.push_back(score * p.softmax_scale());
            values.push_back(s.v.download(at_key * d_v, d_v));
        }
    }
    const double highest = *std::max_element(scores.begin(), scores.end());
    double sum = 0.0, difference = 0.0, norm = 0.0;
    std::vector<double> want(static_cast<std::size_t>(d_v));
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const double weight = std::exp(scores[i] - highest);
        sum += weight;
        for (std::size_t e = 0; e < want.size(); ++e) {
            want[e] += weight * static_cast<double>(__bfloat162float(values[i][e]));
        }
    }
    for (std::size_t e = 0; e < want.size(); ++e) {
        difference += std::pow(static_cast<double>(__bfloat162float(got[e])) - want[e] / sum, 2);
        norm += std::pow(want[e] / sum, 2);
    }
    return std::sqrt(difference / norm);
}

/// Throws if a step is wrong; returns the rows, of all, whose blocks are not those of route_with_centroids().
std::int64_t check_step(const Step& s) {
    s.append();
    for (int i = 0; i < rotation; ++i) s.step(i);
    check_cuda(cudaDeviceSynchronize(), "step");
    std::mt19937 engine(3);
    for (int i = 0; i < 6; ++i) {
        const double error = row_error(s, i % rotation, static_cast<std::int64_t>(engine()) % s.rows());
        if (!(error < 4e-3)) throw std::runtime_error("wrong output of a step");
    }
    DeviceArray<unsigned char> space(
        static_cast<std::int64_t>(workspace_size(Operation::route_with_centroids, s.p, Backend::cuda)));
    DeviceArray<std::int32_t> want(s.rows() * s.p.routed());
    Execution execution = s.execution;
    execution.workspace = space.data;
    execution.workspace_bytes = static_cast<std::size_t>(space.count);
    must(route_with_centroids(s.p, s.queries(0), s.centroids.data, want.data, nullptr, execution));
    check_cuda(cudaDeviceSynchronize(), "route_with_centroids");
    const auto a = want.download(0, want.count), b = s.selection.download(0, want.count);
    std::int64_t different = 0;
    for (std::int64_t row = 0; row < s.rows(); ++row) {
        const auto begin = row * s.p.routed(), end = begin + s.p.routed();
        const std::set<std::int32_t> one(a.begin() + begin, a.begin() + end), other(b.begin() + begin, b.begin() + end);
        different += one == other ? 0 : 1;
    }
    if (different * 50 > s.rows()) throw std::runtime_error("other blocks than route_with_centroids()");
    return different;
}

/// Bytes that a step has to read, of the first set of queries.
double bytes_of(const Step& s) {
    const Problem& p = s.p;
    const auto all = s.selection.download(0, s.rows() * p.routed());
    const std::int64_t own = (p.seqlen_k - 1) / p.block_size;
    double keys = 0.0;
    for (std::int64_t b = 0; b < p.batch; ++b) {
        for (std::int64_t head_k = 0; head_k < p.heads_k; ++head_k) {
            std::set<std::int32_t> blocks;
            for (std::int64_t i = 0; i < p.heads_q / p.heads_k; ++i) {
                const std::int64_t row = (head_k * (p.heads_q / p.heads_k) + i) * p.batch + b;
                blocks.insert(all.begin() + row * p.routed(), all.begin() + (row + 1) * p.routed());
            }
            blocks.erase(-1);
            keys += static_cast<double>(static_cast<std::int64_t>(blocks.size()) * p.block_size + p.seqlen_k -
                                        own * p.block_size);
        }
    }
    const double row = 2.0 * static_cast<double>(p.head_dim), value_row = 2.0 * static_cast<double>(p.value_dim());
    const double candidates = static_cast<double>(own * p.batch * p.heads_k * parts_of(p.scorer.kind));
    return keys * (row + value_row) + candidates * row;
}

/// Median microseconds of `run(set)` in a graph of all sets.
template <typename Run>
double graph_us(const Step& s, const Run& run) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeGlobal), "capture");
    for (int i = 0; i < rotation; ++i) run(i);
    check_cuda(cudaStreamEndCapture(s.stream, &graph), "capture");
    check_cuda(cudaGraphInstantiate(&executable, graph, 0), "graph");
    cudaEvent_t begin, end;
    check_cuda(cudaEventCreate(&begin), "event");
    check_cuda(cudaEventCreate(&end), "event");
    std::vector<float> times;
    for (int i = 0; i < 33; ++i) {
        float ms = 0.0f;
        check_cuda(cudaEventRecord(begin, s.stream), "record");
        check_cuda(cudaGraphLaunch(executable, s.stream), "launch");
        check_cuda(cudaEventRecord(end, s.stream), "record");
        check_cuda(cudaEventSynchronize(end), "synchronize");
        check_cuda(cudaEventElapsedTime(&ms, begin, end), "elapsed");
        if (i > 2) times.push_back(ms);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return 1e3 * static_cast<double>(times[times.size() / 2]) / rotation;
}

void time_setting(const Setting& setting) {
    const Step s(setting);
    const std::int64_t different = check_step(s);
    const double bytes = bytes_of(s);
    const double step = graph_us(s, [&](int i) { s.step(i); });
    const double append = graph_us(s, [&](int) { s.append(); });
    const double route = graph_us(s, [&](int i) { s.route(i); });
    const double attend = graph_us(s, [&](int i) { s.attend(i); });
    std::printf(
        "%-16s %8.1f us a step (append %5.1f, route %6.1f, attention %6.1f), %7.1f MB: %.2f TB/s; %lld of %lld rows "
        "routed otherwise than by tensor cores\n",
        setting.name, step, append, route, attend, bytes * 1e-6, bytes / step * 1e-6, static_cast<long long>(different),
        static_cast<long long>(s.rows()));
    std::fflush(stdout);
}

int run(const std::vector<std::string>& names) {
    must(backend_available(Backend::cuda));
    for (const Setting& setting : settings) {
        if (names.empty() || std::find(names.begin(), names.end(), setting.name) != names.end()) time_setting(setting);
    }
    return 0;
}

}  // namespace
}  // namespace mobalab::kernels

int main(int argc, char** argv) {
    try {
        return mobalab::kernels::run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "cuda_decode_bench: %s\n", error.what());
        return 1;
    }
}
