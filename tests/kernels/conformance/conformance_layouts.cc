// Any strides, 0 included, give the bits of the same values laid out contiguously; in and out, forward and backward.
#include <cstring>
#include <functional>

#include "tests/kernels/conformance/conformance_call.h"

namespace mobalab::kernels::conformance {
namespace {

struct Extents {
    std::int64_t batch, tokens, heads, d;
    std::int64_t rows() const { return batch * tokens * heads; }
};
struct Strides {
    std::int64_t batch, token, head;
};
struct Layout {
    std::string name;
    std::function<Strides(const Extents&)> strides;
};

/// Of tensors that are written, too.
std::vector<Layout> separate_layouts() {
    return {
        {"contiguous",
         [](const Extents& e) {
             return Strides{e.tokens * e.heads * e.d, e.heads * e.d, e.d};
         }},
        {"gaps everywhere",
         [](const Extents& e) {
             const std::int64_t token = e.heads * (e.d + 8) + 16;
             return Strides{e.tokens * token + 64, token, e.d + 8};
         }},
        {"sequence first",
         [](const Extents& e) {
             return Strides{e.heads * e.d, e.batch * e.heads * e.d, e.d};
         }},
        {"heads before tokens",
         [](const Extents& e) {
             return Strides{e.heads * e.tokens * e.d, e.d, e.tokens * e.d};
         }},
        {"heads outermost",
         [](const Extents& e) {
             return Strides{e.tokens * e.d, e.d, e.batch * e.tokens * e.d};
         }},
    };
}

std::vector<Layout> all_layouts() {
    std::vector<Layout> layouts = separate_layouts();
    layouts.push_back({"one head for all", [](const Extents& e) { return Strides{e.tokens * e.d, e.d, 0}; }});
    layouts.push_back({"one token for all", [](const Extents& e) { return Strides{e.heads * e.d, 0, e.d}; }});
    layouts.push_back({"one sequence for all", [](const Extents& e) { return Strides{0, e.heads * e.d, e.d}; }});
    layouts.push_back({"one row for all", [](const Extents&) { return Strides{0, 0, 0}; }});
    layouts.push_back({"overlapping rows", [](const Extents& e) { return Strides{e.tokens * 8 + e.d, 8, 8}; }});
    return layouts;
}

/// Place of every element of a contiguous tensor in one with strides.
template <typename Visit>
void for_each_element(const Extents& e, const Strides& s, const Visit& visit) {
    std::size_t i = 0;
    for (std::int64_t b = 0; b < e.batch; ++b) {
        for (std::int64_t t = 0; t < e.tokens; ++t) {
            for (std::int64_t h = 0; h < e.heads; ++h) {
                const std::int64_t row = b * s.batch + t * s.token + h * s.head;
                for (std::int64_t c = 0; c < e.d; ++c) visit(i++, static_cast<std::size_t>(row + c));
            }
        }
    }
}

std::size_t span_of(const Extents& e, const Strides& s) {
    return static_cast<std::size_t>((e.batch - 1) * s.batch + (e.tokens - 1) * s.token + (e.heads - 1) * s.head + e.d);
}

/// A tensor with strides; strides of extents of 1 are nonsense, which nobody may look at.
class Laid {
public:
    Laid(const Call& call, const Extents& e, const Layout& layout)
        : e_(e), s_(layout.strides(e)), dtype_(call.p.dtype), buffer_(call.output(span_of(e, s_))) {}
    /// What the values are once laid out: where elements share a place, the last one stays.
    Laid(const Call& call, const Extents& e, const Layout& layout, std::vector<float>& values)
        : Laid(e, layout.strides(e), call, values) {}

    Tensor tensor() const {
        constexpr std::int64_t nonsense = 13;
        return {buffer_.data(), e_.batch > 1 ? s_.batch : nonsense, e_.tokens > 1 ? s_.token : -nonsense,
                e_.heads > 1 ? s_.head : nonsense};
    }
    std::vector<float> read() const {
        const std::vector<float> laid = decode(buffer_.read<std::byte>(), dtype_);
        std::vector<float> values(static_cast<std::size_t>(e_.rows() * e_.d));
        for_each_element(e_, s_, [&](std::size_t i, std::size_t at) { values[i] = laid[at]; });
        return values;
    }

private:
    Laid(const Extents& e, const Strides& s, const Call& call, std::vector<float>& values)
        : e_(e), s_(s), dtype_(call.p.dtype), buffer_(call.upload(lay(e, s, values))) {}
    static std::vector<float> lay(const Extents& e, const Strides& s, std::vector<float>& values) {
        std::vector<float> laid(span_of(e, s), 1e4F);
        for_each_element(e, s, [&](std::size_t i, std::size_t at) { laid[at] = values[i]; });
        for_each_element(e, s, [&](std::size_t i, std::size_t at) { values[i] = laid[at]; });
        return laid;
    }

    Extents e_;
    Strides s_;
    DataType dtype_;
    Buffer buffer_;
};

struct Outcome {
    std::vector<float> out, lse, dq, dk, dv, convolved, d_conv;
    std::vector<std::int32_t> selection;
};

Extents query_extents(const Case& c) {
    const bool packed = !c.cu_q.empty();
    return {packed ? 1 : c.p.batch, packed ? c.p.total_q : c.p.seqlen_q, c.p.heads_q, c.p.head_dim};
}
Extents key_extents(const Case& c) {
    const bool packed = !c.cu_k.empty();
    return {packed ? 1 : c.p.batch, packed ? c.p.total_k : c.p.seqlen_k, c.p.heads_k, c.p.head_dim};
}

void run_attention(const Target& target, Case& c, const Layout& in, const Layout& to, Outcome& result) {
    const Call call(target, c, Operation::moba_forward);
    const Extents eq = query_extents(c);
    const Extents ek = key_extents(c);
    const Laid q(call, eq, in, c.q);
    const Laid k(call, ek, in, c.k);
    const Laid v(call, ek, in, c.v);
    const Laid out(call, eq, to);
    const Buffer selection = call.output(call.selection_size(), DataType::fp32);
    const Buffer lse = call.output(call.query_rows(), DataType::fp32);
    const Status forward = moba_forward(call.p, as_const(q.tensor()), as_const(k.tensor()), as_const(v.tensor()),
                                        out.tensor(), floats(lse), ints(selection), call.execution);
    ASSERT_TRUE(forward.ok()) << forward.message;
    const Call back(target, c, Operation::attention_backward);
    const Laid d_out(back, eq, in, c.d_out);
    const Laid dq(back, eq, to);
    const Laid dk(back, ek, to);
    const Laid dv(back, ek, to);
    const Status backward = attention_backward(back.p, as_const(q.tensor()), as_const(k.tensor()), as_const(v.tensor()),
                                               as_const(out.tensor()), as_const(d_out.tensor()), floats(lse),
                                               ints(selection), dq.tensor(), dk.tensor(), dv.tensor(), back.execution);
    ASSERT_TRUE(backward.ok()) << backward.message;
    result.out = out.read();
    result.lse = lse.read<float>();
    result.selection = selection.read<std::int32_t>();
    result.dq = dq.read();
    result.dk = dk.read();
    result.dv = dv.read();
}

void run_convolution(const Target& target, Case& c, const Layout& in, const Layout& to, Outcome& result) {
    constexpr int width = 4;
    const Call call(target, c, Operation::key_conv_centroids);
    const Extents e = key_extents(c);
    const auto weights = static_cast<std::size_t>(e.heads * e.d * width);
    const Buffer weight = call.upload(normal(weights, DataType::fp32, 90), DataType::fp32);
    const Laid k(call, e, in, c.k);
    const Laid out(call, e, to);
    const auto pooled = static_cast<std::size_t>(call.p.blocks() * e.heads * e.d);
    const Buffer centroids = call.output(pooled);
    const Status forward = key_conv_centroids(call.p, as_const(k.tensor()), floats(weight), width, out.tensor(),
                                              centroids.data(), call.execution);
    ASSERT_TRUE(forward.ok()) << forward.message;
    const Call back(target, c, Operation::key_conv_backward);
    std::vector<float> upper = c.v;
    const Laid d_out(back, e, in, upper);
    const Laid dk(back, e, to);
    const Buffer d_weight = back.output(weights, DataType::fp32);
    const Status backward = key_conv_backward(back.p, as_const(k.tensor()), floats(weight), width,
                                              as_const(d_out.tensor()), dk.tensor(), floats(d_weight), back.execution);
    ASSERT_TRUE(backward.ok()) << backward.message;
    result.convolved = out.read();
    const std::vector<float> means = decode(centroids.read<std::byte>(), c.p.dtype);
    result.convolved.insert(result.convolved.end(), means.begin(), means.end());
    result.d_conv = dk.read();
    const std::vector<float> dw = d_weight.read<float>();
    result.d_conv.insert(result.d_conv.end(), dw.begin(), dw.end());
}

Outcome run(const Target& target, Case& c, const Layout& in, const Layout& to) {
    Outcome result;
    run_attention(target, c, in, to, result);
    run_convolution(target, c, in, to, result);
    return result;
}

template <typename T>
void expect_same(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
    ASSERT_FALSE(want.empty()) << what;
    ASSERT_EQ(got.size(), want.size()) << what;
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(T)), 0) << what;
}

void expect_same(const Outcome& got, const Outcome& want) {
    expect_same(got.selection, want.selection, "selection");
    expect_same(got.out, want.out, "out");
    expect_same(got.lse, want.lse, "lse");
    expect_same(got.dq, want.dq, "dq");
    expect_same(got.dk, want.dk, "dk");
    expect_same(got.dv, want.dv, "dv");
    expect_same(got.convolved, want.convolved, "key convolution and centroids");
    expect_same(got.d_conv, want.d_conv, "gradients of the key convolution");
}

std::vector<Case> layout_cases(DataType dtype) {
    return {
        make_case("batch 2, gqa 2", shape(2, 150, 150, 4, 2, 64, 32, 3), dtype, 41),
        make_case("d 256", shape(2, 70, 70, 2, 1, 256, 32, 3), dtype, 42),
        make_case("one query at batch 3", shape(3, 1, 130, 2, 2, 128, 32, 3), dtype, 43),
        make_case("one head, chunk of a prefill", shape(2, 40, 140, 1, 1, 64, 32, 3), dtype, 44),
        make_varlen_case("variable length", shape(1, 0, 0, 2, 1, 64, 32, 3), {33, 0, 90}, {33, 20, 90}, dtype, 45),
    };
}

}  // namespace

TEST_P(MobaConformance, StridesOfInputsAreWhatTheySay) {
    const std::vector<Layout> layouts = all_layouts();
    for (const Case& c : layout_cases(GetParam().dtype)) {
        for (const Layout& layout : layouts) {
            SCOPED_TRACE(c.name + ", " + layout.name);
            Case laid = c;
            const Outcome got = run(GetParam(), laid, layout, layouts.front());  // laid: the values as they are there
            expect_same(got, run(GetParam(), laid, layouts.front(), layouts.front()));
            if (HasFatalFailure()) return;
        }
    }
}

TEST_P(MobaConformance, StridesOfOutputsAreWhatTheySay) {
    const std::vector<Layout> layouts = separate_layouts();
    for (Case c : layout_cases(GetParam().dtype)) {
        const Outcome want = run(GetParam(), c, layouts.front(), layouts.front());
        for (const Layout& layout : layouts) {
            SCOPED_TRACE(c.name + ", " + layout.name);
            expect_same(run(GetParam(), c, layouts.front(), layout), want);
            if (HasFatalFailure()) return;
        }
    }
}

}  // namespace mobalab::kernels::conformance
