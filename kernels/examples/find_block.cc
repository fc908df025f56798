// From C++: the same tensors, strides and errors as kernels.h has them. Queries and keys are read where they lie in one
// packed tensor [tokens, 2 heads of q and 1 of k, head_dim]; both query heads share the key head. Head 1 of the last
// query is key 21, in block 2.
#include <cstdint>
#include <iostream>
#include <vector>

#include "kernels/kernels.h"

namespace mk = mobalab::kernels;

int main() {
    constexpr std::int64_t tokens = 64, dim = 16, needle = 21;
    mk::Problem problem;
    problem.seqlen_q = problem.seqlen_k = tokens;
    problem.heads_q = 2;
    problem.heads_k = 1;
    problem.head_dim = dim;
    problem.block_size = 8;
    problem.topk = 3;
    problem.scorer = {.kind = mk::ScorerKind::submean, .sub_blocks = 4};  // the best quarter of a block counts

    std::vector<float> packed(static_cast<std::size_t>(tokens * 3 * dim));
    const auto at = [&](std::int64_t token, std::int64_t row) { return packed.data() + (token * 3 + row) * dim; };
    std::uint32_t noise = 1;
    for (std::int64_t i = 0; i < tokens * dim; ++i) {
        noise = 1664525U * noise + 1013904223U;
        at(i / dim, 2)[i % dim] = static_cast<float>(noise >> 8U) / static_cast<float>(1 << 24) - 0.5F;
    }
    for (std::int64_t e = 0; e < dim; ++e) {
        at(tokens - 1, 1)[e] = at(needle, 2)[e];
    }
    const mk::ConstTensor q = {.data = at(0, 0), .stride_token = 3 * dim, .stride_head = dim};
    const mk::ConstTensor k = {.data = at(0, 2), .stride_token = 3 * dim, .stride_head = dim};

    std::vector<std::int32_t> selection(static_cast<std::size_t>(problem.heads_q * tokens * problem.routed()));
    const mk::Status status = mk::route(problem, q, k, selection.data(), nullptr, {.backend = mk::Backend::cpu});
    if (!status.ok()) {
        std::cerr << status.message << '\n';
        return 1;
    }
    const std::int32_t* last_row = selection.data() + (2 * tokens - 1) * problem.routed();
    std::cout << "head 1 of the last query keeps blocks " << last_row[0] << " and " << last_row[1] << '\n';

    problem.topk = 0;
    std::cout << mk::route(problem, q, k, selection.data(), nullptr, {}).message << '\n';
}
