#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "experiments/results/results_file.h"
#include "kernels/kernels.h"

namespace mobalab::experiments {

/// Shape of a benchmark.
struct BenchShape {
    std::int64_t batch = 1;
    std::int64_t heads = 1;  ///< of queries and of keys
    std::int64_t head_dim = 128;
    std::int64_t block_size = 64;
    std::int64_t seq_len = 32768;
    std::int64_t topk = 8;
    kernels::DataType dtype = kernels::DataType::fp32;
    int threads = 0;  ///< of the host; 0: all hardware threads

    std::int64_t rows() const { return batch * heads * seq_len; }  ///< of every tensor
};

/// Useful multiply-adds of routing: every query against every block before its own.
double routing_products(const BenchShape& shape);
/// Useful multiply-adds of one of attention's products: every query against the keys it keeps, causal in its own block.
double attention_products(const BenchShape& shape);
/// The problem of every kernel at this shape.
kernels::Problem problem_of(const BenchShape& shape);

/// Something to time, and what to hold it against.
struct BenchCase {
    static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

    std::string name;
    BenchShape shape;
    std::function<void()> run;  ///< may throw; called several times, each call the same work
    double flops = unknown;     ///< useful floating-point operations of one call
    double bytes = unknown;     ///< bytes one call must move (each tensor once)

    std::string peer = {};  ///< empty: none
    std::function<void()> run_peer = {};
    double peer_flops = unknown;  ///< for cases with flops: the ratio compares flop rates,
    double peer_bytes = unknown;  ///< else (or where the peer has none) bytes a second

    std::string peak = {};        ///< names peak_flops
    double peak_flops = unknown;  ///< floating-point operations a second the processor can do at most

    /// Seconds of one call of its argument; empty: the clock of the host.
    std::function<double(const std::function<void()>&)> timer = {};
};

/// Cases of one backend. Tensors live as long as the cases. Another device is another function like these.
std::vector<BenchCase> cpu_kernel_cases(const BenchShape& shape);
std::vector<BenchCase> simulation_cases(const BenchShape& shape);

/// Checks a sample of what the kernels compute against the CPU backend before it returns: throws KernelError where they
/// differ by more than rounding. What the backend does not offer is left out and named in `left_out`.
std::vector<BenchCase> cuda_kernel_cases(const BenchShape& shape, std::vector<std::string>& left_out);

struct BenchBudget {
    std::int64_t repeats = 7;
    double seconds = 0.5;  ///< a case stops after its repeats, or after this long (but not before 3)
};

struct BenchResult {
    BenchCase measured;  ///< without what it ran, so that its tensors can go
    std::vector<double> seconds;
    std::vector<double> peer_seconds;  ///< as many; empty without a peer
};

/// Times a case, after one call to warm up. Subject and peer take turns, so that both see the same state of the
/// machine.
BenchResult measure(const BenchCase& measured, const BenchBudget& budget);

/// Table "bench" (dimension "measurement"): name, batch, heads, head_dim, block_size, seq_len, topk, dtype, threads,
/// seconds_median, seconds_low, seconds_high (fastest and slowest), repeats, gflops, gbytes_per_second, peer,
/// ratio_to_peer (median of the rates' ratios of single turns; NaN without a peer), peak, share_of_peak.
Table bench_table(const std::vector<BenchResult>& results);

}  // namespace mobalab::experiments
