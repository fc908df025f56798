// The tensors the conformance tests run on.
#include <algorithm>
#include <random>

#include "kernels/cpu/convert.h"
#include "tests/kernels/conformance/moba_conformance.h"

namespace mobalab::kernels::conformance {
namespace {

void fill(Case& c, DataType dtype, unsigned seed) {
    c.p.dtype = dtype;
    const auto d = static_cast<std::size_t>(c.p.head_dim);
    const Problem host = c.host_problem();
    const auto queries = static_cast<std::size_t>(host.tokens_q() * host.heads_q) * d;
    const auto keys = static_cast<std::size_t>(host.tokens_k() * host.heads_k) * d;
    c.q = normal(queries, dtype, seed);
    c.k = normal(keys, dtype, seed + 1);
    c.v = normal(keys, dtype, seed + 2);
    c.d_out = normal(queries, dtype, seed + 3);
}

std::vector<std::int32_t> boundaries(const std::vector<std::int32_t>& lengths) {
    std::vector<std::int32_t> cu = {0};
    for (const std::int32_t length : lengths) cu.push_back(cu.back() + length);
    return cu;
}

}  // namespace

Problem shape(std::int64_t batch, std::int64_t sq, std::int64_t sk, std::int64_t heads_q, std::int64_t heads_k,
              std::int64_t head_dim, std::int64_t block_size, std::int64_t topk) {
    Problem p;
    p.batch = batch;
    p.seqlen_q = sq;
    p.seqlen_k = sk;
    p.heads_q = heads_q;
    p.heads_k = heads_k;
    p.head_dim = head_dim;
    p.block_size = block_size;
    p.topk = topk;
    return p;
}

Problem Case::host_problem() const {
    Problem host = p;
    if (!cu_q.empty()) {
        host.cu_seqlens_q = cu_q.data();
        host.cu_seqlens_k = cu_k.data();
    }
    return host;
}

std::vector<float> rounded(std::vector<float> values, DataType dtype) {
    for (float& value : values) value = cpu::round_to(dtype, value);
    return values;
}

std::vector<float> normal(std::size_t count, DataType dtype, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> values(count);
    for (float& value : values) value = distribution(engine);
    return rounded(std::move(values), dtype);
}

Case make_case(const std::string& name, Problem p, DataType dtype, unsigned seed) {
    Case c;
    c.name = name;
    c.p = p;
    fill(c, dtype, seed);
    return c;
}

Case make_varlen_case(const std::string& name, Problem p, const std::vector<std::int32_t>& lengths_q,
                      const std::vector<std::int32_t>& lengths_k, DataType dtype, unsigned seed) {
    Case c;
    c.name = name;
    c.p = p;
    c.cu_q = boundaries(lengths_q);
    c.cu_k = boundaries(lengths_k);
    c.p.batch = static_cast<std::int64_t>(lengths_q.size());
    c.p.seqlen_q = c.p.seqlen_k = c.p.total_blocks = 0;
    for (const std::int32_t length : lengths_q) c.p.seqlen_q = std::max<std::int64_t>(c.p.seqlen_q, length);
    for (const std::int32_t length : lengths_k) {
        c.p.seqlen_k = std::max<std::int64_t>(c.p.seqlen_k, length);
        c.p.total_blocks += (length + p.block_size - 1) / p.block_size;
    }
    c.p.total_q = c.cu_q.back();
    c.p.total_k = c.cu_k.back();
    fill(c, dtype, seed);
    return c;
}

std::vector<Case> more_queries_than_keys(DataType dtype) {
    return {
        make_case("more queries than keys", shape(2, 210, 130, 4, 2, 64, 32, 3), dtype, 70),
        make_case("many more queries than keys", shape(1, 600, 150, 1, 1, 128, 128, 2), dtype, 71),
        make_case("more queries than keys, d 256, large blocks", shape(1, 700, 520, 2, 1, 256, 256, 2), dtype, 72),
        make_varlen_case("variable length, more queries than keys", shape(1, 0, 0, 2, 1, 64, 16, 4),
                         {150, 40, 5, 0, 1, 70}, {60, 0, 5, 30, 0, 200}, dtype, 73),
    };
}

std::vector<Case> standard_cases(const Target& target) {
    const DataType dtype = target.dtype;
    std::vector<Case> cases = {
        make_case("gqa 2, partial last block", shape(2, 300, 300, 4, 2, 64, 32, 3), dtype, 1),
        make_case("two heads, d 128", shape(1, 700, 700, 2, 2, 128, 64, 8), dtype, 2),
        make_case("one token", shape(3, 1, 1, 2, 1, 64, 64, 2), dtype, 3),
        make_case("shorter than a block", shape(2, 40, 40, 1, 1, 64, 128, 4), dtype, 4),
        make_case("exactly whole blocks", shape(1, 512, 512, 1, 1, 128, 128, 2), dtype, 5),
        make_case("chunked prefill, gqa 8", shape(1, 100, 700, 8, 1, 64, 16, 8), dtype, 6),
        make_case("topk 64", shape(1, 1100, 1100, 1, 1, 32, 16, 64), dtype, 7),
        make_case("d 96, large blocks", shape(1, 600, 600, 1, 1, 96, 256, 2), dtype, 8),
        make_case("d 256", shape(1, 260, 260, 4, 1, 256, 32, 5), dtype, 9),
        make_case("own block alone", shape(1, 200, 200, 2, 2, 64, 16, 1), dtype, 10),
        make_varlen_case("variable length, empty sequences", shape(1, 0, 0, 4, 1, 64, 64, 4), {0, 130, 1, 0, 257},
                         {0, 130, 77, 65, 300}, dtype, 11),
        make_varlen_case("variable length, small blocks", shape(1, 0, 0, 2, 2, 128, 16, 6), {33, 500, 16},
                         {33, 500, 250}, dtype, 12),
    };
    const std::vector<Case> longer = more_queries_than_keys(dtype);
    cases.insert(cases.end(), longer.begin(), longer.end());
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // The double-precision judge is some 30 times slower here; memory errors and races show in the smaller cases.
    std::erase_if(cases, [](const Case& c) { return c.p.seqlen_k > 600; });
#endif
    if (!target.any_shape) return cases;
    cases.push_back(make_case("blocks of one key, d 1", shape(1, 40, 40, 1, 1, 1, 1, 5), dtype, 13));
    cases.push_back(make_case("odd everything", shape(3, 61, 64, 6, 3, 7, 5, 6), dtype, 14));
    cases.push_back(make_case("odd, larger than a tile", shape(1, 509, 509, 1, 1, 33, 100, 3), dtype, 15));
    return cases;
}

}  // namespace mobalab::kernels::conformance
