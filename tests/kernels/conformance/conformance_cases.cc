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
    const auto d_v = static_cast<std::size_t>(c.p.value_dim());
    const auto queries = static_cast<std::size_t>(host.tokens_q() * host.heads_q);
    const auto keys = static_cast<std::size_t>(host.tokens_k() * host.heads_k);
    c.q = normal(queries * d, dtype, seed);
    c.k = normal(keys * d, dtype, seed + 1);
    c.v = normal(keys * d_v, dtype, seed + 2);
    c.d_out = normal(queries * d_v, dtype, seed + 3);
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

std::vector<Case> odd_head_dims(DataType dtype) {
    return {
        make_case("d 8", shape(2, 90, 150, 2, 2, 8, 16, 3), dtype, 80),
        make_varlen_case("d 24, variable length", shape(1, 0, 0, 2, 1, 24, 32, 3), {40, 0, 200, 3}, {40, 2, 230, 1},
                         dtype, 81),
        make_case("d 40", shape(1, 300, 300, 4, 2, 40, 32, 3), dtype, 82),
        make_case("d 48", shape(1, 260, 260, 1, 1, 48, 128, 2), dtype, 83),
        make_case("d 72", shape(2, 200, 200, 2, 1, 72, 64, 3), dtype, 84),
        make_case("d 80", shape(1, 300, 300, 2, 2, 80, 16, 8), dtype, 85),
        make_case("d 112, large blocks", shape(1, 500, 500, 1, 1, 112, 256, 2), dtype, 86),
        make_varlen_case("d 136, variable length", shape(1, 0, 0, 2, 2, 136, 64, 3), {20, 130, 0, 300},
                         {0, 150, 9, 300}, dtype, 87),
        make_case("d 160", shape(1, 300, 300, 2, 1, 160, 32, 4), dtype, 88),
        make_case("d 192", shape(1, 400, 400, 1, 1, 192, 128, 2), dtype, 89),
        make_case("d 224", shape(1, 330, 330, 1, 1, 224, 64, 3), dtype, 90),
        make_case("d 248, large blocks", shape(1, 600, 600, 1, 1, 248, 512, 2), dtype, 91),
    };
}

std::vector<Case> odd_block_sizes(DataType dtype) {
    return {
        make_case("blocks of one key", shape(1, 150, 150, 2, 1, 64, 1, 6), dtype, 100),
        make_varlen_case("blocks of 3 keys, long lists", shape(1, 0, 0, 2, 1, 32, 3, 40), {1, 0, 260, 31},
                         {1, 4, 260, 90}, dtype, 101),
        make_case("blocks of 7 keys", shape(1, 330, 330, 1, 1, 128, 7, 17), dtype, 102),
        make_case("blocks of 8 keys, d 256", shape(1, 40, 300, 2, 1, 256, 8, 9), dtype, 103),
        make_case("blocks of 12 keys, d 72", shape(2, 200, 200, 2, 2, 72, 12, 4), dtype, 104),
        make_case("blocks of 15 keys, more queries than keys", shape(1, 300, 250, 1, 1, 64, 15, 5), dtype, 105),
        make_case("blocks of 20 keys", shape(1, 400, 400, 2, 1, 96, 20, 6), dtype, 106),
        make_case("blocks of 40 keys, d 256", shape(1, 350, 350, 1, 1, 256, 40, 4), dtype, 107),
        make_case("blocks of 48 keys", shape(1, 100, 700, 4, 1, 128, 48, 6), dtype, 108),
        make_case("blocks of 63 keys, d 200", shape(1, 400, 400, 1, 1, 200, 63, 3), dtype, 109),
        make_case("blocks of 96 keys", shape(2, 350, 350, 2, 1, 64, 96, 3), dtype, 110),
        make_varlen_case("blocks of 100 keys", shape(1, 0, 0, 2, 2, 128, 100, 3), {250, 99, 0, 333}, {250, 101, 7, 400},
                         dtype, 111),
        make_case("blocks of 100 keys, d 256", shape(1, 450, 450, 1, 1, 256, 100, 3), dtype, 112),
        make_case("blocks of 129 keys", shape(1, 600, 600, 2, 1, 64, 129, 3), dtype, 113),
        make_case("blocks of 200 keys, d 40", shape(1, 700, 700, 1, 1, 40, 200, 3), dtype, 114),
        make_case("blocks of 200 keys, d 256", shape(1, 700, 700, 1, 1, 256, 200, 3), dtype, 115),
        make_case("blocks of 384 keys", shape(1, 900, 900, 1, 1, 64, 384, 2), dtype, 116),
        make_case("blocks of 1000 keys, more queries than keys", shape(1, 1200, 1100, 1, 1, 64, 1000, 2), dtype, 117),
    };
}

std::vector<Case> many_routed_blocks(DataType dtype) {
    return {
        make_case("topk 65", shape(1, 600, 600, 2, 1, 64, 4, 65), dtype, 130),
        make_varlen_case("topk 100, variable length", shape(1, 0, 0, 2, 2, 32, 3, 100), {40, 0, 350, 90},
                         {20, 2, 420, 90}, dtype, 131),
        make_case("topk 300", shape(1, 100, 1300, 1, 1, 128, 4, 300), dtype, 132),
        make_case("topk 1024", shape(1, 40, 4200, 1, 1, 72, 4, 1024), dtype, 133),
        make_case("all of 500 blocks", shape(1, 70, 2000, 2, 1, 32, 4, 5000), dtype, 134),
    };
}

std::vector<Case> non_causal_cases(DataType dtype) {
    std::vector<Case> cases = {
        make_case("not causal, gqa 2, partial last block", shape(2, 200, 296, 4, 2, 64, 32, 3), dtype, 140),
        make_case("not causal, more queries than keys", shape(1, 210, 130, 2, 1, 128, 64, 2), dtype, 141),
        make_varlen_case("not causal, variable length", shape(1, 0, 0, 4, 1, 64, 16, 4), {0, 130, 9, 0, 57, 40},
                         {0, 130, 77, 65, 200, 0}, dtype, 142),
        make_case("not causal, one block", shape(1, 300, 300, 1, 1, 64, 128, 1), dtype, 143),
        make_case("not causal, all blocks", shape(1, 90, 250, 2, 2, 256, 32, 50), dtype, 144),
        make_case("not causal, shorter than a block", shape(2, 40, 40, 1, 1, 64, 128, 4), dtype, 145),
        make_case("not causal, blocks of 7 keys, d 72", shape(1, 150, 330, 1, 1, 72, 7, 17), dtype, 146),
        make_case("not causal, large blocks", shape(1, 350, 600, 2, 1, 128, 256, 2), dtype, 147),
        make_case("not causal, blocks of 200 keys, d 256", shape(1, 300, 650, 1, 1, 256, 200, 3), dtype, 148),
        make_case("not causal, last block of few keys, d 96", shape(1, 100, 650, 2, 1, 96, 300, 2), dtype, 160),
        make_case("not causal, last block of few keys", shape(1, 150, 1150, 1, 1, 128, 1024, 2), dtype, 161),
        make_case("not causal, topk 100", shape(1, 100, 1003, 1, 1, 64, 4, 100), dtype, 149),
        make_case("not causal, no keys", shape(2, 30, 0, 2, 1, 64, 32, 3), dtype, 150),
    };
    for (Case& c : cases) c.p.causal = false;
    return cases;
}

std::vector<Case> other_value_dims(DataType dtype) {
    struct Widths {
        std::int64_t keys, values;
    };
    std::vector<Case> cases;
    for (const auto& [keys, values] : {Widths{64, 128}, Widths{128, 64}, Widths{192, 128}, Widths{32, 256},
                                       Widths{96, 64}, Widths{40, 72}, Widths{256, 8}, Widths{8, 96}}) {
        Problem p = shape(2, 150, 210, 4, 2, keys, values == 96 ? 12 : 32, 4);
        p.head_dim_v = values;
        cases.push_back(make_case("d " + std::to_string(keys) + ", values " + std::to_string(values), p, dtype, 160));
    }
    Problem large = shape(1, 500, 500, 2, 1, 128, 256, 2);
    large.head_dim_v = 96;
    cases.push_back(make_case("values 96, large blocks", large, dtype, 161));
    Problem varlen = shape(1, 0, 0, 2, 1, 64, 16, 5);
    varlen.head_dim_v = 32;
    cases.push_back(
        make_varlen_case("values 32, variable length", varlen, {40, 0, 200, 3}, {40, 2, 230, 1}, dtype, 162));
    cases.push_back(make_case("values 96, not causal", large, dtype, 163));
    cases.back().p.causal = false;
    return cases;
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
    for (const std::vector<Case>& more :
         {more_queries_than_keys(dtype), odd_head_dims(dtype), odd_block_sizes(dtype), many_routed_blocks(dtype),
          non_causal_cases(dtype), other_value_dims(dtype)}) {
        cases.insert(cases.end(), more.begin(), more.end());
    }
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
