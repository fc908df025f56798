// The public functions of decode.h: check the arguments once, for all backends, then call the backend's table.
#include <fmt/format.h>

#include <algorithm>

#include "kernels/check.h"
#include "kernels/dispatch.h"

namespace mobalab::kernels {
namespace {

/// prepare() and the rules of a cache.
Status prepare_decode(const BackendTable*& table, Operation operation, const Problem& p, const Cache& cache,
                      const Execution& execution, std::size_t& workspace) {
    table = find_backend(execution.backend);
    const bool offered = table != nullptr && offers(*table, operation);
    if (Status s = prepare(table, offered, operation, p, execution, workspace); !s.ok()) return s;
    return check_cache(operation, p, cache, table->host_memory);
}

Status check_appended(std::int64_t appended) {
    if (appended >= 0) return {};
    return invalid(fmt::format("appended = {}: must be at least 0; nearest valid choice: 0", appended));
}

bool appends(const Problem& p, std::int64_t appended) {
    return appended > 0 && p.seqlen_k > 0 && p.centroid_elements() > 0;
}

}  // namespace

Status append_centroids(const Problem& p, const Cache& cache, ConstTensor k, std::int64_t appended, void* centroids,
                        const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = nullptr;
        std::size_t workspace = 0;
        Status s = prepare_decode(table, Operation::append_centroids, p, cache, execution, workspace);
        if (s.ok()) s = check_appended(appended);
        if (!s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        s = arguments.cache(cache).cached_keys("k", cache, k).centroids(centroids, true).status();
        if (!s.ok() || !appends(p, appended)) return s;
        return table->append_centroids(p, cache, k, std::min(appended, p.seqlen_k), centroids, execution);
    });
}

Status decode_route(const Problem& p, const Cache& cache, ConstTensor q, const void* centroids, std::int32_t* selection,
                    float* scores, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = nullptr;
        std::size_t workspace = 0;
        Status s = prepare_decode(table, Operation::decode_route, p, cache, execution, workspace);
        if (!s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        arguments.cache(cache).queries("q", q).centroids(centroids, false).selection(selection, true);
        if (scores != nullptr) arguments.written("scores", scores, p.tokens_q() * p.heads_q * p.routed());
        s = arguments.status();
        if (!s.ok() || p.tokens_q() == 0 || p.routed() == 0) return s;
        return table->decode_route(p, cache, q, centroids, selection, scores, execution);
    });
}

Status decode_attention(const Problem& p, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                        const std::int32_t* selection, Tensor out, float* lse, const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = nullptr;
        std::size_t workspace = 0;
        Status s = prepare_decode(table, Operation::decode_attention, p, cache, execution, workspace);
        if (!s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        arguments.cache(cache).queries("q", q).cached_keys("k", cache, k).cached_values("v", cache, v);
        s = arguments.selection(selection, false).outputs("out", out).lse(lse, true).status();
        if (!s.ok() || p.tokens_q() == 0) return s;
        return table->decode_attention(p, cache, q, k, v, selection, out, lse, execution);
    });
}

Status moba_decode(const Problem& p, const Cache& cache, ConstTensor q, ConstTensor k, ConstTensor v,
                   std::int64_t appended, void* centroids, Tensor out, float* lse, std::int32_t* selection,
                   const Execution& execution) {
    return guarded([&]() -> Status {
        const BackendTable* table = nullptr;
        std::size_t workspace = 0;
        Status s = prepare_decode(table, Operation::moba_decode, p, cache, execution, workspace);
        if (s.ok()) s = check_appended(appended);
        if (!s.ok()) return s;
        Arguments arguments(p, execution, workspace);
        arguments.cache(cache)
            .queries("q", q)
            .cached_keys("k", cache, k)
            .cached_values("v", cache, v)
            .centroids(centroids, true);
        s = arguments.selection(selection, true).outputs("out", out).lse(lse, true).status();
        if (s.ok() && appends(p, appended)) {
            s = table->append_centroids(p, cache, k, std::min(appended, p.seqlen_k), centroids, execution);
        }
        if (!s.ok() || p.tokens_q() == 0) return s;
        if (p.routed() > 0) s = table->decode_route(p, cache, q, centroids, selection, nullptr, execution);
        if (!s.ok()) return s;
        return table->decode_attention(p, cache, q, k, v, selection, out, lse, execution);
    });
}

}  // namespace mobalab::kernels
