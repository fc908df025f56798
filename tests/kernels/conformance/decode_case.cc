#include "tests/kernels/conformance/decode_case.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "tests/kernels/conformance/conformance_call.h"

namespace mobalab::kernels::conformance {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

std::int64_t blocks_of(const DecodeCase& c, std::int64_t b) {
    return (c.lengths[static_cast<std::size_t>(b)] + c.p.block_size - 1) / c.p.block_size;
}

std::size_t bytes_of_block(const Problem& p) {
    return static_cast<std::size_t>(parts_of(p.scorer.kind) * p.scorer.sub_blocks * p.heads_k * p.head_dim) *
           size_of(p.centroid_dtype());
}

/// The cache of a case: rows of one key each, in pages or not.
struct Layout {
    Cache cache;
    std::vector<std::int32_t> table;
    std::int64_t rows = 0;

    explicit Layout(const DecodeCase& c) : seqlen_k_(c.p.seqlen_k) {
        rows = c.p.batch * c.p.seqlen_k;
        if (c.page_size == 0) return;
        cache.page_size = c.page_size;
        columns_ = cache.pages_per_sequence(c.p.seqlen_k);
        std::vector<std::int32_t> order(static_cast<std::size_t>(c.p.batch * columns_ + 3));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), std::mt19937(11));
        cache.pages = static_cast<std::int64_t>(order.size());
        rows = cache.pages * c.page_size;
        for (std::int64_t b = 0; b < c.p.batch; ++b) {
            for (std::int64_t i = 0; i < columns_; ++i) {
                const bool used = i * c.page_size < c.lengths[static_cast<std::size_t>(b)];
                const std::int32_t none = i % 2 == 0 ? -7 : 123456789;
                table.push_back(used ? order[table.size()] : none);
            }
        }
    }

    std::int64_t row_of(std::int64_t b, std::int64_t t) const {
        if (table.empty()) return b * seqlen_k_ + t;
        const auto entry = static_cast<std::size_t>(b * columns_ + t / cache.page_size);
        return table[entry] * cache.page_size + t % cache.page_size;
    }

    /// Keys or values, head_dim of each head, where they belong, NaN everywhere else.
    std::vector<float> place(const DecodeCase& c, const std::vector<float>& values, std::int64_t head_dim) const {
        const std::int64_t row = c.p.heads_k * head_dim;
        std::vector<float> placed(static_cast<std::size_t>(rows * row), nan);
        for (std::int64_t b = 0; b < c.p.batch; ++b) {
            for (std::int64_t t = 0; t < c.lengths[static_cast<std::size_t>(b)]; ++t) {
                std::copy_n(values.begin() + (b * seqlen_k_ + t) * row, row, placed.begin() + row_of(b, t) * row);
            }
        }
        return placed;
    }

private:
    std::int64_t seqlen_k_, columns_ = 0;
};

/// A Call with the cache in the target's memory.
struct DecodeCall {
    DecodeCall(const Target& target, const DecodeCase& c, Operation operation)
        : layout(c),
          call(target, Case{c.name, c.p, {}, {}, {}, {}, {}, {}}, operation),
          lengths(call.upload_raw(c.lengths)),
          table(call.upload_raw(layout.table)),
          q(call.upload(c.q)),
          k(call.upload(layout.place(c, c.k, c.p.head_dim))),
          v(call.upload(layout.place(c, c.v, c.p.value_dim()))),
          selection(call.output(call.selection_size(), DataType::fp32)),
          scores(call.output(call.selection_size(), DataType::fp32)),
          out(call.output(call.output_size())),
          lse(call.output(call.query_rows(), DataType::fp32)),
          cache(layout.cache) {
        cache.lengths = ints(lengths);
        if (c.page_size > 0) cache.block_table = ints(table);
    }

    Decoded results(Status status, const Buffer& centroids) const {
        const auto selected = selection.read<std::int32_t>();
        return {std::move(status),
                centroids.read<std::byte>(),
                {{}, selected, scores.read<float>()},
                {{}, decode(out.read<std::byte>(), call.p.dtype), lse.read<float>(), selected}};
    }

    Layout layout;
    Call call;
    Buffer lengths, table, q, k, v, selection, scores, out, lse;
    Cache cache;
};

/// The sequences behind one another.
struct Packed {
    Case c;

    explicit Packed(const DecodeCase& from) {
        c.p = from.p;
        c.p.seqlen_k = 0;
        c.cu_q = {0};
        c.cu_k = {0};
        c.q = from.q;
        for (std::int64_t b = 0; b < from.p.batch; ++b) {
            const std::int64_t length = from.lengths[static_cast<std::size_t>(b)];
            c.p.seqlen_k = std::max(c.p.seqlen_k, length);
            c.p.total_blocks += blocks_of(from, b);
            c.cu_q.push_back(static_cast<std::int32_t>((b + 1) * from.p.seqlen_q));
            c.cu_k.push_back(static_cast<std::int32_t>(c.cu_k.back() + length));
            const auto append = [&](std::vector<float>& to, const std::vector<float>& all, std::int64_t head_dim) {
                const auto begin = all.begin() + b * from.p.seqlen_k * from.p.heads_k * head_dim;
                to.insert(to.end(), begin, begin + length * from.p.heads_k * head_dim);
            };
            append(c.k, from.k, from.p.head_dim);
            append(c.v, from.v, from.p.value_dim());
        }
        c.p.total_q = c.cu_q.back();
        c.p.total_k = c.cu_k.back();
    }
};

Target reference_target(DataType dtype) {
    Target target;
    target.backend = Backend::cpu_reference;
    target.dtype = dtype;
    target.memory = std::make_shared<HostMemory>();
    target.any_shape = true;
    return target;
}

/// Rows of `from` slots as rows of `to` of them, the others `none`, or the first ones alone.
template <typename T>
std::vector<T> with_slots(const std::vector<T>& values, std::int64_t rows, std::int64_t from, std::int64_t to, T none) {
    std::vector<T> result(static_cast<std::size_t>(rows * to), none);
    for (std::int64_t row = 0; row < rows; ++row) {
        std::copy_n(values.begin() + row * from, std::min(from, to), result.begin() + row * to);
    }
    return result;
}

}  // namespace

DecodeCase decode_case(const std::string& name, const Problem& problem, const std::vector<std::int32_t>& lengths,
                       DataType dtype, unsigned seed) {
    DecodeCase c;
    c.name = name;
    c.p = problem;
    c.p.dtype = dtype;
    c.lengths = lengths;
    const std::int64_t keys = problem.tokens_k() * problem.heads_k;
    c.q = normal(static_cast<std::size_t>(problem.tokens_q() * problem.heads_q * problem.head_dim), dtype, seed);
    c.k = normal(static_cast<std::size_t>(keys * problem.head_dim), dtype, seed + 1);
    c.v = normal(static_cast<std::size_t>(keys * problem.value_dim()), dtype, seed + 2);
    return c;
}

void make_whole(DecodeCase& c, unsigned seed) {
    std::mt19937 engine(seed);
    for (std::vector<float>* values : {&c.q, &c.k}) {
        for (float& value : *values) value = static_cast<float>(engine() % 5) - 2.0F;
    }
}

std::vector<std::byte> poisoned_centroids(const DecodeCase& c) {
    return std::vector<std::byte>(static_cast<std::size_t>(c.p.centroid_elements()) * size_of(c.p.centroid_dtype()),
                                  std::byte{poison});
}

Decoded run_append(const Target& target, const DecodeCase& c, std::int64_t appended,
                   const std::vector<std::byte>& centroids) {
    const DecodeCall d(target, c, Operation::append_centroids);
    const Buffer kept = d.call.upload_raw(centroids);
    Status status = append_centroids(d.call.p, d.cache, input(d.k), appended, kept.data(), d.call.execution);
    return d.results(std::move(status), kept);
}

Decoded run_decode_route(const Target& target, const DecodeCase& c, const std::vector<std::byte>& centroids) {
    const DecodeCall d(target, c, Operation::decode_route);
    const Buffer kept = d.call.upload_raw(centroids);
    Status status =
        decode_route(d.call.p, d.cache, input(d.q), kept.data(), ints(d.selection), floats(d.scores), d.call.execution);
    return d.results(std::move(status), kept);
}

Decoded run_decode_attention(const Target& target, const DecodeCase& c, const std::vector<std::int32_t>& selection) {
    const DecodeCall d(target, c, Operation::decode_attention);
    const Buffer none = d.call.upload_raw(std::vector<std::byte>{});
    const Buffer selected = d.call.upload_raw(selection);
    Status status = decode_attention(d.call.p, d.cache, input(d.q), input(d.k), input(d.v), ints(selected),
                                     output(d.out), floats(d.lse), d.call.execution);
    return d.results(std::move(status), none);
}

Decoded run_decode(const Target& target, const DecodeCase& c, std::int64_t appended,
                   const std::vector<std::byte>& centroids) {
    const DecodeCall d(target, c, Operation::moba_decode);
    const Buffer kept = d.call.upload_raw(centroids);
    Status status = moba_decode(d.call.p, d.cache, input(d.q), input(d.k), input(d.v), appended, kept.data(),
                                output(d.out), floats(d.lse), ints(d.selection), d.call.execution);
    return d.results(std::move(status), kept);
}

std::vector<std::byte> computed_centroids(const Target& target, const DecodeCase& c) {
    std::vector<std::byte> all = poisoned_centroids(c);
    const std::int64_t row = c.p.heads_k * c.p.head_dim;
    const std::size_t of_block = bytes_of_block(c.p);
    for (std::int64_t b = 0; b < c.p.batch; ++b) {
        Case one;
        one.p = c.p;
        one.p.batch = 1;
        one.p.seqlen_k = c.lengths[static_cast<std::size_t>(b)];
        if (one.p.seqlen_k == 0) continue;
        const auto begin = c.k.begin() + b * c.p.seqlen_k * row;
        one.k.assign(begin, begin + one.p.seqlen_k * row);
        const Call call(target, one, Operation::centroids);
        const Buffer k = call.upload(one.k);
        const Buffer out(target, static_cast<std::size_t>(blocks_of(c, b)) * of_block);
        const Status status = compute_centroids(call.p, input(k), out.data(), call.execution);
        EXPECT_TRUE(status.ok()) << status.message;
        const auto bytes = out.read<std::byte>();
        std::copy(
            bytes.begin(), bytes.end(),
            all.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(b * c.p.longest_blocks()) * of_block));
    }
    return all;
}

Routing reference_route(const DecodeCase& c, const std::vector<std::byte>& centroids) {
    const Packed packed(c);
    const Target target = reference_target(c.p.dtype);
    std::vector<std::byte> kept;
    const std::size_t of_block = bytes_of_block(c.p);
    for (std::int64_t b = 0; b < c.p.batch; ++b) {
        const auto begin = centroids.begin() +
                           static_cast<std::ptrdiff_t>(static_cast<std::size_t>(b * c.p.longest_blocks()) * of_block);
        kept.insert(kept.end(), begin,
                    begin + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(blocks_of(c, b)) * of_block));
    }
    Routing r = run_route_with_centroids(target, packed.c, decode(kept, c.p.centroid_dtype()));
    const std::int64_t rows = c.p.heads_q * c.p.tokens_q(), from = packed.c.p.routed(), to = c.p.routed();
    return {r.status, with_slots(r.selection, rows, from, to, -1),
            with_slots(r.scores, rows, from, to, -std::numeric_limits<float>::infinity())};
}

Attention reference_attention(const DecodeCase& c, const std::vector<std::int32_t>& selection) {
    const Packed packed(c);
    const std::int64_t rows = c.p.heads_q * c.p.tokens_q();
    return run_attention(reference_target(c.p.dtype), packed.c,
                         with_slots(selection, rows, c.p.routed(), packed.c.p.routed(), -1));
}

}  // namespace mobalab::kernels::conformance
