#include "kernels/cpu/reference_rows.h"

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"

namespace mobalab::kernels::reference {

Rows rows_of(const Problem& problem, ConstTensor tensor, std::int64_t heads, std::int64_t seqlen) {
    if (tensor.stride_token == contiguous) tensor.stride_token = heads * problem.head_dim;
    if (tensor.stride_head == contiguous) tensor.stride_head = problem.head_dim;
    if (tensor.stride_batch == contiguous) tensor.stride_batch = seqlen * tensor.stride_token;
    return [tensor, dtype = problem.dtype, d = problem.head_dim, seqlen](std::int64_t token, std::int64_t head,
                                                                         double* row) {
        std::vector<float> values(static_cast<std::size_t>(d));
        const ConstTensor sequence = cpu::from_token(tensor, dtype, token / seqlen, token % seqlen);
        cpu::read_row(cpu::row_address(sequence, dtype, 0, head), dtype, d, values.data());
        std::copy(values.begin(), values.end(), row);
    };
}

Rows rows_of(const std::vector<double>& contiguous, std::int64_t heads, std::int64_t head_dim) {
    return [data = contiguous.data(), heads, head_dim](std::int64_t token, std::int64_t head, double* row) {
        std::copy_n(data + (token * heads + head) * head_dim, head_dim, row);
    };
}

std::vector<double> gather(const Rows& rows, std::int64_t begin, std::int64_t count, std::int64_t head,
                           std::int64_t head_dim, int threads) {
    constexpr std::int64_t chunk = 1024;
    std::vector<double> values(static_cast<std::size_t>(count * head_dim));
    cpu::parallel_for((count + chunk - 1) / chunk, threads, [&](std::int64_t c) {
        for (std::int64_t i = c * chunk; i < std::min(count, (c + 1) * chunk); ++i) {
            rows(begin + i, head, values.data() + i * head_dim);
        }
    });
    return values;
}

std::vector<Judged> judged_in(const cpu::Sequence& sequence, const Options& options) {
    std::vector<Judged> judged;
    if (options.queries.empty()) {
        for (std::int64_t row = 0; row < sequence.queries; ++row) {
            judged.push_back({sequence.q_begin + row, sequence.q_begin + row, row});
        }
        return judged;
    }
    for (std::size_t i = 0; i < options.queries.size(); ++i) {
        const std::int64_t row = options.queries[i] - sequence.q_begin;
        if (row >= 0 && row < sequence.queries)
            judged.push_back({static_cast<std::int64_t>(i), options.queries[i], row});
    }
    return judged;
}

}  // namespace mobalab::kernels::reference
