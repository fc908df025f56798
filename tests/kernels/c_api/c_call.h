#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/c_api/mobalab_kernels.h"

// One call of the C interface over buffers of its own, for tests that change an argument at a time.
namespace mobalab::kernels::testing_support {

/// A backend and where its tensors live.
struct CBackend {
    std::string name;
    int32_t number = MOBALAB_CPU;
    std::function<void*(std::size_t)> allocate;  ///< 256-byte aligned
    std::function<void(void*)> release;
    std::function<void(void*, const void*, std::size_t)> write;  ///< to it from the host
    std::function<void(void*, const void*, std::size_t)> read;   ///< from it to the host, after all work
};
CBackend host_backend(const std::string& name, int32_t number);

/// All arguments of all operations, good ones: bf16, batch 2, 48 queries over 80 keys, 4 query heads over 2 of head_dim
/// 64, 5 blocks of 16 keys, topk 3; of a cache without pages whose sequences have 80 and 61 keys, 3 of them new. Values
/// are multiples of 1/8, so that scores and centroids are exact in every order.
class CCall {
public:
    explicit CCall(const CBackend& backend);
    CCall(const CCall&) = delete;
    CCall& operator=(const CCall&) = delete;
    ~CCall();

    /// A named buffer of the backend with these bytes.
    void* put(const std::string& name, const void* bytes, std::size_t size);
    void* put(const std::string& name, const std::vector<int32_t>& values) {
        return put(name, values.data(), values.size() * sizeof(int32_t));
    }
    /// Exactly as much workspace as the operation asks for.
    void make_workspace();
    /// Calls `operation` (with a workspace, unless one was set).
    MobalabStatus run();
    /// The contents of what the operation writes, by name.
    std::map<std::string, std::vector<unsigned char>> outputs() const;

    MobalabOperation operation = MOBALAB_OP_MOBA_FORWARD;
    MobalabProblem problem{};
    MobalabExecution execution{};
    MobalabTensor q{}, k{}, v{}, out{}, d_out{}, dq{}, dk{}, dv{};
    MobalabCache cache{};
    const MobalabCache* cache_pointer = &cache;
    int64_t appended = 3;
    void* centroids = nullptr;
    int32_t *selection = nullptr, *cu_q = nullptr, *cu_k = nullptr;
    float *scores = nullptr, *lse = nullptr, *weight = nullptr, *d_weight = nullptr;
    int32_t width = 4;
    const MobalabProblem* problem_pointer = &problem;
    const MobalabExecution* execution_pointer = &execution;
    bool own_workspace = true;
    std::string message;

private:
    struct Buffer {
        void* data;
        std::size_t size;
    };
    MobalabTensor tensor(const std::string& name, int64_t rows, unsigned seed);
    MobalabTensor output(const std::string& name, int64_t rows);
    MobalabStatus call(char* text, std::size_t size);

    const CBackend& backend_;
    std::map<std::string, Buffer> buffers_;
};

}  // namespace mobalab::kernels::testing_support
