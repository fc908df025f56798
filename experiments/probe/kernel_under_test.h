#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "experiments/base/check.h"
#include "experiments/probe/probe_plan.h"
#include "sim/streams/needle_queries.h"

namespace mobalab::experiments {

/// The selection of `rows` rows as kernels::route() wrote it, `width` slots a row at the front of `selection`, to
/// `topk - 1` slots a row in place: a short sequence has fewer blocks than topk, so its rows are narrower.
void widen_selection(std::int32_t* selection, std::int64_t rows, std::int64_t width, std::int64_t topk);

/// Keys of one sequence inside a kernel, ready to be routed against.
class LoadedKeys {
public:
    virtual ~LoadedKeys() = default;

    /// Routes every chunk. `queries`: fp32 [rows of all chunks, head_dim], chunk after chunk, rounded to the dtype of
    /// the shape by the kernel's side; `selection`: [rows of all chunks, topk - 1], best first, -1 past the candidates.
    /// Throws KernelError.
    virtual void route(std::span<const QueryChunk> chunks, std::span<const float> queries, std::int64_t topk,
                       std::span<std::int32_t> selection) = 0;

    /// Builds the queries, then route(). `feasible`: [rows of all chunks], see sim::build_needle_queries(), which a
    /// kernel may do where its tensors are; here it is done on the host.
    virtual void route_needles(std::span<const QueryChunk> chunks, const sim::NeedleQueries& queries, std::int64_t topk,
                               std::span<std::int32_t> selection, std::span<std::uint8_t> feasible);
};

/// The router the probe examines. Everything that differs between memories (host, device) and element types is behind
/// these two classes: another backend is another implementation, and tests put deliberately wrong routers here.
/// Thread-safe: key sets are loaded and routed from several threads at once.
class KernelUnderTest {
public:
    virtual ~KernelUnderTest() = default;

    virtual std::string device() const = 0;  ///< "cpu", "cuda": the kernel; part of what a result depends on
    virtual std::string processor() const;   ///< what it runs on, for the results file; the CPU unless overridden

    /// Most key sets to work on at once; each caller thread holds one.
    virtual int parallel_key_sets() const = 0;

    /// `keys`: fp32 [seq_len, head_dim], contiguous, alive as long as the result. Throws KernelError.
    virtual std::unique_ptr<LoadedKeys> load(const ProbeShape& shape, std::span<const float> keys) const = 0;

    /// load() of the first seq_len of these rows, which a kernel may draw where its tensors are; here they are drawn
    /// on the host, in memory of the calling thread, which holds one such key set at a time.
    virtual std::unique_ptr<LoadedKeys> draw(const ProbeShape& shape, const sim::UnitRows& keys) const;

    /// Memory of the host that a key set of draw() takes.
    virtual std::int64_t host_bytes(const ProbeShape& shape) const;
};

/// The CPU kernel (kernels::Backend::cpu), one thread per key set. `threads` 0: all hardware threads.
std::unique_ptr<KernelUnderTest> cpu_kernel(int threads);

/// The CUDA kernel (kernels::Backend::cuda; bf16, fp16) on the current device; up to `threads` key sets in flight (0:
/// one for each hardware thread), each on a stream of its own. Throws KernelError where there is no device or no CUDA.
std::unique_ptr<KernelUnderTest> cuda_kernel(int threads);

/// The kernel of --device, after resolve_device(): cpu or cuda.
std::unique_ptr<KernelUnderTest> kernel_for_device(const std::string& device, int threads);

/// The kernel's problem of `rows` last queries of a sequence of this shape, topk left as it is.
kernels::Problem problem_of(const ProbeShape& shape, std::int64_t rows);

}  // namespace mobalab::experiments
