// Attention over the own and the selected blocks, and its gradients, in double precision.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reference_rows.h"

namespace mobalab::kernels::reference {
namespace {

constexpr std::int64_t queries_per_task = 16;

/// One key head of one sequence as matrices of doubles.
struct Head {
    std::int64_t d, d_v;
    double scale;
    std::vector<double> k, v;
    Vector key(std::int64_t i) const { return {k.data() + i * d, d}; }
    Vector value(std::int64_t i) const { return {v.data() + i * d_v, d_v}; }
};

/// The keys one query sees, with their softmax probabilities.
struct Softmax {
    std::vector<std::int64_t> keys;
    std::vector<double> probability;
    double lse = 0.0;
};

std::vector<std::int64_t> visible_keys(const Problem& p, const cpu::Sequence& s, std::int64_t row,
                                       const std::int32_t* selected) {
    const std::int64_t candidates = s.candidates(row);
    std::vector<std::int64_t> blocks;
    std::vector<bool> named(static_cast<std::size_t>(candidates));
    for (const std::int32_t* block = selected; block != selected + p.routed(); ++block) {
        if (*block < 0 || *block >= candidates || named[static_cast<std::size_t>(*block)]) continue;
        named[static_cast<std::size_t>(*block)] = true;
        blocks.push_back(*block);
    }
    if (s.causal) blocks.push_back(s.own_block(row));
    const std::int64_t seen = s.causal ? s.position(row) + 1 : s.keys;
    std::vector<std::int64_t> keys;
    for (const std::int64_t block : blocks) {
        const std::int64_t end = std::min((block + 1) * p.block_size, seen);
        for (std::int64_t i = block * p.block_size; i < end; ++i) keys.push_back(i);
    }
    return keys;
}

Softmax softmax(const Eigen::VectorXd& query, const Head& head, std::vector<std::int64_t> keys) {
    Softmax result{std::move(keys), {}, std::numeric_limits<double>::infinity()};
    if (result.keys.empty()) return result;
    for (const std::int64_t i : result.keys) result.probability.push_back(head.scale * query.dot(head.key(i)));
    const double highest = *std::max_element(result.probability.begin(), result.probability.end());
    double sum = 0.0;
    for (double& value : result.probability) sum += value = std::exp(value - highest);
    for (double& value : result.probability) value /= sum;
    result.lse = highest + std::log(sum);
    return result;
}

Head load_head(const Problem& p, const cpu::Sequence& s, const Rows& k, const Rows& v, std::int64_t head, int threads) {
    return {p.head_dim, p.value_dim(), p.softmax_scale(), gather(k, s.k_begin, s.keys, head, p.head_dim, threads),
            gather(v, s.k_begin, s.keys, head, p.value_dim(), threads)};
}

/// Adds one query's share to the gradients of its head; dk and dv are [keys, d] and [keys, d_v] of one sequence and key
/// head.
void add_gradients(const Softmax& softmax, const Head& head, const Eigen::VectorXd& query, const Eigen::VectorXd& d_out,
                   Eigen::Map<Eigen::VectorXd> dq, std::vector<double>& dk, std::vector<double>& dv) {
    std::vector<double> d_probability;
    double mean = 0.0;  // sum of p * dp, which is also dout . out
    for (std::size_t i = 0; i < softmax.keys.size(); ++i) {
        d_probability.push_back(d_out.dot(head.value(softmax.keys[i])));
        mean += softmax.probability[i] * d_probability[i];
    }
    for (std::size_t i = 0; i < softmax.keys.size(); ++i) {
        const std::int64_t key = softmax.keys[i];
        const double d_score = head.scale * softmax.probability[i] * (d_probability[i] - mean);
        dq += d_score * head.key(key);
        Eigen::Map<Eigen::VectorXd>(dk.data() + key * head.d, head.d) += d_score * query;
        Eigen::Map<Eigen::VectorXd>(dv.data() + key * head.d_v, head.d_v) += softmax.probability[i] * d_out;
    }
}

}  // namespace

Attention attention_forward(const Problem& p, const Rows& q, const Rows& k, const Rows& v,
                            const std::int32_t* selection, const Options& options) {
    return attend_sequences(p, cpu::sequences_of(p), q, k, v, selection, options);
}

Attention attend_sequences(const Problem& p, const std::vector<cpu::Sequence>& sequences, const Rows& q, const Rows& k,
                           const Rows& v, const std::int32_t* selection, const Options& options) {
    const std::int64_t d_v = p.value_dim();
    const std::int64_t count = judged_count(p, options);
    const std::int64_t group = p.heads_q / p.heads_k;
    Attention result;
    result.out.resize(static_cast<std::size_t>(count * p.heads_q * d_v));
    result.lse.resize(static_cast<std::size_t>(count * p.heads_q));
    for (const cpu::Sequence& s : sequences) {
        const std::vector<Judged> judged = judged_in(s, options);
        const auto rows = static_cast<std::int64_t>(judged.size());
        const std::int64_t chunks = (rows + queries_per_task - 1) / queries_per_task;
        for (std::int64_t head_k = 0; head_k < p.heads_k && rows > 0; ++head_k) {
            const Head head = load_head(p, s, k, v, head_k, options.threads);
            cpu::parallel_for(chunks * group, options.threads, [&](std::int64_t task) {
                const std::int64_t head_q = head_k * group + task / chunks;
                const std::int64_t first = task % chunks * queries_per_task;
                Eigen::VectorXd query(p.head_dim);
                for (std::int64_t i = first; i < std::min(rows, first + queries_per_task); ++i) {
                    const Judged& row = judged[static_cast<std::size_t>(i)];
                    q(row.token, head_q, query.data());
                    const std::int32_t* selected = selection + (head_q * p.tokens_q() + row.token) * p.routed();
                    const Softmax weights = softmax(query, head, visible_keys(p, s, row.row, selected));
                    Eigen::Map<Eigen::VectorXd> out(result.out.data() + (row.output * p.heads_q + head_q) * d_v, d_v);
                    out.setZero();
                    for (std::size_t j = 0; j < weights.keys.size(); ++j) {
                        out += weights.probability[j] * head.value(weights.keys[j]);
                    }
                    result.lse[static_cast<std::size_t>(head_q * count + row.output)] = weights.lse;
                }
            });
        }
    }
    return result;
}

AttentionGradients attention_backward(const Problem& p, const Rows& q, const Rows& k, const Rows& v, const Rows& d_out,
                                      const std::int32_t* selection, const Options& options) {
    const std::int64_t d = p.head_dim;
    const std::int64_t d_v = p.value_dim();
    const std::int64_t group = p.heads_q / p.heads_k;
    AttentionGradients result;
    result.dq.resize(static_cast<std::size_t>(judged_count(p, options) * p.heads_q * d));
    result.dk.resize(static_cast<std::size_t>(p.tokens_k() * p.heads_k * d));
    result.dv.resize(static_cast<std::size_t>(p.tokens_k() * p.heads_k * d_v));
    const std::vector<cpu::Sequence> sequences = cpu::sequences_of(p);
    const auto tasks = static_cast<std::int64_t>(sequences.size()) * p.heads_k;
    // One task owns the dk and dv of one (sequence, key head): nothing is shared.
    cpu::parallel_for(tasks, options.threads, [&](std::int64_t task) {
        const cpu::Sequence& s = sequences[static_cast<std::size_t>(task / p.heads_k)];
        const std::int64_t head_k = task % p.heads_k;
        const Head head = load_head(p, s, k, v, head_k, 1);
        std::vector<double> dk(head.k.size());
        std::vector<double> dv(head.v.size());
        Eigen::VectorXd query(d);
        Eigen::VectorXd d_row(d_v);
        for (const Judged& row : judged_in(s, options)) {
            for (std::int64_t head_q = head_k * group; head_q < (head_k + 1) * group; ++head_q) {
                q(row.token, head_q, query.data());
                d_out(row.token, head_q, d_row.data());
                const std::int32_t* selected = selection + (head_q * p.tokens_q() + row.token) * p.routed();
                const Softmax weights = softmax(query, head, visible_keys(p, s, row.row, selected));
                double* dq = result.dq.data() + (row.output * p.heads_q + head_q) * d;
                add_gradients(weights, head, query, d_row, {dq, d}, dk, dv);
            }
        }
        for (std::int64_t i = 0; i < s.keys; ++i) {
            const std::int64_t row = (s.k_begin + i) * p.heads_k + head_k;
            std::copy_n(dk.data() + i * d, d, result.dk.data() + row * d);
            std::copy_n(dv.data() + i * d_v, d_v, result.dv.data() + row * d_v);
        }
    });
    return result;
}

}  // namespace mobalab::kernels::reference
