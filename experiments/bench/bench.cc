#include "experiments/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "experiments/results/column_builder.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t fewest_repeats = 3;

double time_of(const std::function<void()>& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    if (values.empty()) {
        return BenchCase::unknown;
    }
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

double seconds_of(const BenchCase& measured, const std::function<void()>& run) {
    return measured.timer ? measured.timer(run) : time_of(run);
}

double ratio_to_peer(const BenchResult& result) {
    const BenchCase& measured = result.measured;
    const bool by_flops = !std::isnan(measured.flops) && !std::isnan(measured.peer_flops);
    const double work = by_flops ? measured.flops : measured.bytes;
    const double peer_work = by_flops ? measured.peer_flops : measured.peer_bytes;
    std::vector<double> ratios;
    for (std::size_t i = 0; i < result.peer_seconds.size(); ++i) {
        ratios.push_back(work / result.seconds[i] / (peer_work / result.peer_seconds[i]));
    }
    return median(ratios);
}

}  // namespace

double routing_products(const BenchShape& shape) {
    double candidates = 0.0;
    for (std::int64_t first = 0; first < shape.seq_len; first += shape.block_size) {
        const std::int64_t rows = std::min(shape.block_size, shape.seq_len - first);
        candidates += static_cast<double>(rows) * static_cast<double>(first / shape.block_size);
    }
    return candidates * static_cast<double>(shape.batch * shape.heads * shape.head_dim);
}

double attention_products(const BenchShape& shape) {
    double keys = 0.0;
    for (std::int64_t row = 0; row < shape.seq_len; ++row) {
        const std::int64_t routed = std::min(shape.topk - 1, row / shape.block_size);
        keys += static_cast<double>(routed * shape.block_size + row % shape.block_size + 1);
    }
    return keys * static_cast<double>(shape.batch * shape.heads * shape.head_dim);
}

kernels::Problem problem_of(const BenchShape& shape) {
    kernels::Problem problem;
    problem.batch = shape.batch;
    problem.seqlen_q = problem.seqlen_k = shape.seq_len;
    problem.heads_q = problem.heads_k = shape.heads;
    problem.head_dim = shape.head_dim;
    problem.block_size = shape.block_size;
    problem.topk = shape.topk;
    problem.dtype = shape.dtype;
    return problem;
}

BenchResult measure(const BenchCase& measured, const BenchBudget& budget) {
    BenchResult result{.measured = measured, .seconds = {}, .peer_seconds = {}};
    result.measured.run = nullptr;
    result.measured.run_peer = nullptr;
    result.measured.timer = nullptr;
    measured.run();
    if (measured.run_peer) {
        measured.run_peer();
    }
    double spent = 0.0;
    const auto enough = [&] {
        const std::int64_t done = std::ssize(result.seconds);
        return done >= budget.repeats || (done >= fewest_repeats && spent > budget.seconds);
    };
    while (!enough()) {
        result.seconds.push_back(seconds_of(measured, measured.run));
        spent += result.seconds.back();
        if (measured.run_peer) {
            result.peer_seconds.push_back(seconds_of(measured, measured.run_peer));
            spent += result.peer_seconds.back();
        }
    }
    return result;
}

Table bench_table(const std::vector<BenchResult>& results) {
    Table table{.name = "bench", .dimension = "measurement", .columns = {}};
    const auto column = [&](const char* name, const char* what, auto get, const std::string& units = "1") {
        Column made = make_column(results, name, what, get);
        if (!made.units.empty()) {  // text has none
            made.units = units;
        }
        table.columns.push_back(std::move(made));
    };
    using Row = const BenchResult&;
    column("name", "what was timed", [](Row row) { return row.measured.name; });
    column("batch", "sequences", [](Row row) { return row.measured.shape.batch; });
    column("heads", "heads of queries and of keys", [](Row row) { return row.measured.shape.heads; });
    column("head_dim", "head width d", [](Row row) { return row.measured.shape.head_dim; });
    column("block_size", "keys a block, B", [](Row row) { return row.measured.shape.block_size; });
    column("seq_len", "tokens N", [](Row row) { return row.measured.shape.seq_len; });
    column("topk", "blocks a query attends to, its own included", [](Row row) { return row.measured.shape.topk; });
    column("dtype", "element type", [](Row row) { return std::string(to_string(row.measured.shape.dtype)); });
    column("threads", "threads asked for; 0: all",
           [](Row row) { return static_cast<std::int64_t>(row.measured.shape.threads); });
    column(
        "seconds_median", "median time of one call", [](Row row) { return median(row.seconds); }, "s");
    column(
        "seconds_low", "fastest call",
        [](Row row) { return *std::min_element(row.seconds.begin(), row.seconds.end()); }, "s");
    column(
        "seconds_high", "slowest call",
        [](Row row) { return *std::max_element(row.seconds.begin(), row.seconds.end()); }, "s");
    column("repeats", "calls timed", [](Row row) { return static_cast<std::int64_t>(row.seconds.size()); });
    column(
        "gflops", "useful floating-point operations a second, in units of 1e9",
        [](Row row) { return row.measured.flops / median(row.seconds) / 1e9; }, "1e9 s-1");
    column(
        "gbytes_per_second", "bytes a second when every tensor is moved once, in units of 1e9",
        [](Row row) { return row.measured.bytes / median(row.seconds) / 1e9; }, "1e9 byte s-1");
    column("peer", "what the rate is compared with, in the same run", [](Row row) { return row.measured.peer; });
    column("ratio_to_peer", "rate over the peer's rate", [](Row row) { return ratio_to_peer(row); });
    column("peak", "what share_of_peak is a share of", [](Row row) { return row.measured.peak; });
    column("share_of_peak", "flop rate over that of `peak`",
           [](Row row) { return row.measured.flops / median(row.seconds) / row.measured.peak_flops; });
    return table;
}

}  // namespace mobalab::experiments
