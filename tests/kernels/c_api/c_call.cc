#include "tests/kernels/c_api/c_call.h"

#include <cstring>
#include <new>
#include <random>
#include <set>

namespace mobalab::kernels::testing_support {
namespace {

constexpr std::size_t alignment = 256;
constexpr int64_t batch = 2, queries = 48, keys = 80, heads_q = 4, heads_k = 2, head_dim = 64, slots = 2;

/// Multiples of 1/8 in [-1, 1], as bf16.
std::vector<uint16_t> values(int64_t rows, unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<uint16_t> bits(static_cast<std::size_t>(rows * head_dim));
    for (uint16_t& x : bits) {
        const float value = (static_cast<float>(engine() % 17) - 8.0F) / 8.0F;
        uint32_t wide = 0;
        std::memcpy(&wide, &value, sizeof(wide));
        x = static_cast<uint16_t>(wide >> 16);
    }
    return bits;
}

}  // namespace

CBackend host_backend(const std::string& name, int32_t number) {
    return {name,
            number,
            [](std::size_t size) { return ::operator new (size, std::align_val_t{alignment}); },
            [](void* data) { ::operator delete (data, std::align_val_t{alignment}); },
            [](void* to, const void* from, std::size_t size) { std::memcpy(to, from, size); },
            [](void* to, const void* from, std::size_t size) { std::memcpy(to, from, size); }};
}

CCall::CCall(const CBackend& backend) : backend_(backend) {
    problem.batch = batch;
    problem.seqlen_q = queries;
    problem.seqlen_k = keys;
    problem.heads_q = heads_q;
    problem.heads_k = heads_k;
    problem.head_dim = head_dim;
    problem.block_size = 16;
    problem.topk = slots + 1;
    problem.dtype = MOBALAB_BF16;
    problem.scorer = MOBALAB_SCORER_mean;
    problem.sub_blocks = 1;
    execution.backend = backend.number;
    execution.threads = backend.number == MOBALAB_CUDA ? 0 : 2;
    const int64_t q_rows = batch * queries * heads_q;
    const int64_t k_rows = batch * keys * heads_k;
    q = tensor("q", q_rows, 1);
    k = tensor("k", k_rows, 2);
    v = tensor("v", k_rows, 3);
    d_out = tensor("d_out", q_rows, 4);
    out = output("out", q_rows);
    dq = output("dq", q_rows);
    dk = output("dk", k_rows);
    dv = output("dv", k_rows);
    centroids = tensor("centroids", batch * 5 * heads_k, 5).data;
    const std::vector<int32_t> chosen(static_cast<std::size_t>(q_rows * slots), 1);
    selection = static_cast<int32_t*>(put("selection", chosen));
    const std::vector<float> numbers(static_cast<std::size_t>(q_rows * slots), 0.25F);
    scores = static_cast<float*>(put("scores", numbers.data(), numbers.size() * sizeof(float)));
    lse = static_cast<float*>(put("lse", numbers.data(), static_cast<std::size_t>(q_rows) * sizeof(float)));
    const auto weights = static_cast<std::size_t>(heads_k * head_dim * width) * sizeof(float);
    weight = static_cast<float*>(put("weight", numbers.data(), weights));
    d_weight = static_cast<float*>(put("d_weight", numbers.data(), weights));
    cache.lengths = static_cast<int32_t*>(put("lengths", {80, 61}));
    cu_q = static_cast<int32_t*>(put("cu_q", {0, 30, 96}));
    cu_k = static_cast<int32_t*>(put("cu_k", {0, 70, 160}));
}

CCall::~CCall() {
    for (const auto& [name, buffer] : buffers_) backend_.release(buffer.data);
}

void* CCall::put(const std::string& name, const void* bytes, std::size_t size) {
    Buffer& buffer = buffers_[name];
    if (buffer.data != nullptr) backend_.release(buffer.data);
    buffer = {backend_.allocate(size), size};
    backend_.write(buffer.data, bytes, size);
    return buffer.data;
}

MobalabTensor CCall::tensor(const std::string& name, int64_t rows, unsigned seed) {
    const std::vector<uint16_t> bits = values(rows, seed);
    return {put(name, bits.data(), bits.size() * sizeof(uint16_t)), MOBALAB_CONTIGUOUS, MOBALAB_CONTIGUOUS,
            MOBALAB_CONTIGUOUS};
}

MobalabTensor CCall::output(const std::string& name, int64_t rows) {
    const std::vector<uint16_t> nan(static_cast<std::size_t>(rows * head_dim), 0xffff);
    return {put(name, nan.data(), nan.size() * sizeof(uint16_t)), MOBALAB_CONTIGUOUS, MOBALAB_CONTIGUOUS,
            MOBALAB_CONTIGUOUS};
}

void CCall::make_workspace() {
    if (problem_pointer == nullptr || execution_pointer == nullptr || !own_workspace) return;
    uint64_t bytes = 0;
    const MobalabStatus status = mobalab_workspace_size(operation, &problem, execution.backend, &bytes, nullptr, 0);
    if (status != MOBALAB_OK || bytes == 0) return;
    const std::vector<unsigned char> nothing(bytes, 0xff);
    execution.workspace = put("workspace", nothing.data(), nothing.size());
    execution.workspace_bytes = bytes;
}

MobalabStatus CCall::run() {
    make_workspace();
    char text[1024] = "";
    const MobalabStatus status = call(text, sizeof(text));
    message = text;
    return status;
}

MobalabStatus CCall::call(char* text, std::size_t size) {
    const MobalabProblem* const p = problem_pointer;
    const MobalabExecution* const e = execution_pointer;
    switch (operation) {
        case MOBALAB_OP_CENTROIDS:
            return mobalab_compute_centroids(p, k, centroids, e, text, size);
        case MOBALAB_OP_ROUTE:
            return mobalab_route(p, q, k, selection, scores, e, text, size);
        case MOBALAB_OP_ROUTE_WITH_CENTROIDS:
            return mobalab_route_with_centroids(p, q, centroids, selection, scores, e, text, size);
        case MOBALAB_OP_ATTENTION_FORWARD:
            return mobalab_attention_forward(p, q, k, v, selection, out, lse, e, text, size);
        case MOBALAB_OP_MOBA_FORWARD:
            return mobalab_moba_forward(p, q, k, v, out, lse, selection, e, text, size);
        case MOBALAB_OP_ATTENTION_BACKWARD:
            return mobalab_attention_backward(p, q, k, v, out, d_out, lse, selection, dq, dk, dv, e, text, size);
        case MOBALAB_OP_KEY_CONV_FORWARD:
            return mobalab_key_conv_forward(p, k, weight, width, dk, e, text, size);
        case MOBALAB_OP_KEY_CONV_CENTROIDS:
            return mobalab_key_conv_centroids(p, k, weight, width, dk, centroids, e, text, size);
        case MOBALAB_OP_KEY_CONV_BACKWARD:
            return mobalab_key_conv_backward(p, k, weight, width, v, dk, d_weight, e, text, size);
        case MOBALAB_OP_APPEND_CENTROIDS:
            return mobalab_append_centroids(p, cache_pointer, k, appended, centroids, e, text, size);
        case MOBALAB_OP_DECODE_ROUTE:
            return mobalab_decode_route(p, cache_pointer, q, centroids, selection, scores, e, text, size);
        case MOBALAB_OP_DECODE_ATTENTION:
            return mobalab_decode_attention(p, cache_pointer, q, k, v, selection, out, lse, e, text, size);
        case MOBALAB_OP_MOBA_DECODE:
            return mobalab_moba_decode(p, cache_pointer, q, k, v, appended, centroids, out, lse, selection, e, text,
                                       size);
    }
    return MOBALAB_INVALID_ARGUMENT;
}

std::map<std::string, std::vector<unsigned char>> CCall::outputs() const {
    static const std::map<MobalabOperation, std::set<std::string>> written = {
        {MOBALAB_OP_CENTROIDS, {"centroids"}},
        {MOBALAB_OP_ROUTE, {"selection", "scores"}},
        {MOBALAB_OP_ROUTE_WITH_CENTROIDS, {"selection", "scores"}},
        {MOBALAB_OP_ATTENTION_FORWARD, {"out", "lse"}},
        {MOBALAB_OP_MOBA_FORWARD, {"out", "lse", "selection"}},
        {MOBALAB_OP_ATTENTION_BACKWARD, {"dq", "dk", "dv"}},
        {MOBALAB_OP_KEY_CONV_FORWARD, {"dk"}},
        {MOBALAB_OP_KEY_CONV_CENTROIDS, {"dk", "centroids"}},
        {MOBALAB_OP_KEY_CONV_BACKWARD, {"dk", "d_weight"}},
        {MOBALAB_OP_APPEND_CENTROIDS, {"centroids"}},
        {MOBALAB_OP_DECODE_ROUTE, {"selection", "scores"}},
        {MOBALAB_OP_DECODE_ATTENTION, {"out", "lse"}},
        {MOBALAB_OP_MOBA_DECODE, {"out", "lse", "selection", "centroids"}},
    };
    std::map<std::string, std::vector<unsigned char>> result;
    for (const std::string& name : written.at(operation)) {
        const Buffer& buffer = buffers_.at(name);
        std::vector<unsigned char>& bytes = result[name];
        bytes.resize(buffer.size);
        backend_.read(bytes.data(), buffer.data, buffer.size);
    }
    return result;
}

}  // namespace mobalab::kernels::testing_support
