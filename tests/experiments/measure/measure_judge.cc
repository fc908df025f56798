#include "tests/experiments/measure/measure_judge.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "analysis/cluster_interval.h"
#include "kernels/scorers/hash_score.h"

namespace mobalab::experiments {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
using Values = std::vector<double>;
using Keys = std::vector<Values>;

double dot(const Values& a, const Values& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double mean(const Values& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Population variance.
double variance(const Values& values) {
    const double centre = mean(values);
    Values squares;
    for (const double value : values) {
        squares.push_back((value - centre) * (value - centre));
    }
    return mean(squares);
}

double rounded(double value, bool bf16) {
    auto single = static_cast<float>(value);
    if (bf16) {  // nearest, ties to even
        std::uint32_t bits = 0;
        std::memcpy(&bits, &single, sizeof bits);
        bits = (bits + 0x7fffU + ((bits >> 16U) & 1U)) & 0xffff0000U;
        std::memcpy(&single, &bits, sizeof single);
    }
    return single;
}

Values summary(const Keys& keys, bool bf16, const std::function<double(const Values&)>& of_channel) {
    Values result;
    for (std::size_t c = 0; c < keys.front().size(); ++c) {
        Values channel;
        for (const Values& key : keys) {
            channel.push_back(key[c]);
        }
        result.push_back(rounded(of_channel(channel), bf16));
    }
    return result;
}

double largest(const Values& values) {
    return *std::max_element(values.begin(), values.end());
}

double smallest(const Values& values) {
    return *std::min_element(values.begin(), values.end());
}

/// Everything of one row and one setting.
struct JudgedRow {
    std::int64_t position, own;
    Values weights;                  ///< softmax, by key
    Values scores, masses;           ///< of the candidates
    std::vector<std::int64_t> kept;  ///< routed blocks, best first
    std::vector<std::int64_t> kept_unrounded;
    std::int64_t needle = -1, distant = -1;  ///< blocks
    std::function<double(std::int64_t)> chance;
};

class Judge {
public:
    Judge(const JudgedHead& head, const Rows& affinities, const JudgedSetting& setting)
        : head_(head), affinities_(affinities), setting_(setting) {
        for (std::size_t r = 0; r < head.q.size(); ++r) {
            if ((head.q_start + static_cast<std::int64_t>(r)) / setting.block_size > 0) {
                rows_.push_back(row(r));
            }
        }
    }

    std::map<std::string, double> columns(double confidence) const;

    JudgedDistances distances() const {
        JudgedDistances found;
        for (const JudgedRow& row : rows_) {
            const auto to = [&](std::int64_t j) { return row.position - ((j + 1) * setting_.block_size - 1); };
            std::transform(row.kept.begin(), row.kept.end(), std::back_inserter(found.routed), to);
            if (row.needle >= 0) {
                found.needles.push_back(to(row.needle));
            }
        }
        return found;
    }

private:
    std::size_t size() const { return static_cast<std::size_t>(setting_.block_size); }
    bool reference() const {
        return setting_.scorer == "window" || setting_.scorer == "cum2" || setting_.scorer == "oracle";
    }
    bool has_scores() const { return setting_.scorer != "window" && setting_.scorer != "random"; }

    Keys block(std::int64_t j, std::size_t first, std::size_t count) const {
        const auto begin = head_.k.begin() + j * setting_.block_size + static_cast<std::ptrdiff_t>(first);
        return {begin, begin + static_cast<std::ptrdiff_t>(count)};
    }

    /// Of sub-block `part` of `parts` of block j, remembered.
    const Values& summary_of(const std::string& what, std::int64_t j, std::size_t part, std::size_t parts,
                             bool bf16) const {
        Values& known = summaries_[{what, bf16}][{j, part}];
        if (known.empty()) {
            const auto of_channel = what == "mean" ? mean : what == "largest" ? largest : smallest;
            known = summary(block(j, part * size() / parts, size() / parts), bf16, of_channel);
        }
        return known;
    }

    double score(const JudgedRow& row, const Values& q, const Values& affinity, std::int64_t j, bool bf16) const {
        const std::string& scorer = setting_.scorer;
        if (scorer == "window") {
            return static_cast<double>(j);
        }
        if (scorer == "oracle") {
            return row.masses[static_cast<std::size_t>(j)];
        }
        if (scorer == "cum2") {
            const auto first = affinity.begin() + j * setting_.block_size;
            const Values z(first, first + setting_.block_size);
            return head_.scale * mean(z) + head_.scale * head_.scale / 2.0 * variance(z);
        }
        if (scorer == "random") {
            return kernels::hash_score(kernels::hash_of_query(head_.seed, 0, 0, row.position), j);
        }
        if (scorer == "mean") {
            return dot(q, summary_of("mean", j, 0, 1, bf16));
        }
        if (scorer == "max") {
            return dot(q, summary_of("largest", j, 0, 1, bf16));
        }
        if (scorer == "quest") {
            const Values& high = summary_of("largest", j, 0, 1, bf16);
            const Values& low = summary_of("smallest", j, 0, 1, bf16);
            double sum = 0.0;
            for (std::size_t c = 0; c < q.size(); ++c) {
                sum += std::max(q[c] * high[c], q[c] * low[c]);
            }
            return sum;
        }
        const auto parts = static_cast<std::size_t>(std::stoi(scorer.substr(std::strlen("submean-"))));
        double best = -std::numeric_limits<double>::infinity();
        for (std::size_t part = 0; part < parts; ++part) {
            best = std::max(best, dot(q, summary_of("mean", j, part, parts, bf16)));
        }
        return best;
    }

    std::vector<std::int64_t> routed(const Values& scores) const {
        std::vector<std::int64_t> order(scores.size());
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
            const double x = scores[static_cast<std::size_t>(a)];
            const double y = scores[static_cast<std::size_t>(b)];
            return x != y ? x > y : a > b;
        });
        if (setting_.keep_first && setting_.topk > 1) {
            order.erase(std::find(order.begin(), order.end(), 0));
            order.insert(order.begin(), 0);
        }
        order.resize(std::min(order.size(), static_cast<std::size_t>(setting_.topk - 1)));
        return order;
    }

    /// Block of the largest q.k among keys 1 ... end - 1; -1: none.
    std::int64_t needle_block(const Values& z, std::int64_t end) const {
        if (end <= 1) {
            return -1;
        }
        return (std::max_element(z.begin() + 1, z.begin() + end) - z.begin()) / setting_.block_size;
    }

    JudgedRow row(std::size_t r) const {
        const Values& q = head_.q[r];
        JudgedRow row;
        row.position = head_.q_start + static_cast<std::int64_t>(r);
        row.own = row.position / setting_.block_size;
        const Values& z = affinities_[r];
        const double top = largest(z);
        for (const double value : z) {
            row.weights.push_back(std::exp(head_.scale * (value - top)));
        }
        const double total = std::accumulate(row.weights.begin(), row.weights.end(), 0.0);
        for (double& weight : row.weights) {
            weight /= total;
        }
        Values unrounded;
        for (std::int64_t j = 0; j < row.own; ++j) {
            row.masses.push_back(mass(row, j, false));
        }
        for (std::int64_t j = 0; j < row.own; ++j) {
            row.scores.push_back(score(row, q, z, j, head_.bf16));
            unrounded.push_back(head_.bf16 ? score(row, q, z, j, false) : row.scores.back());
        }
        row.kept = routed(row.scores);
        row.kept_unrounded = routed(unrounded);
        row.needle = needle_block(z, (row.own - 2) * setting_.block_size);
        row.distant = needle_block(z, row.position - 1024);
        if (row.distant >= row.own) {
            row.distant = -1;
        }
        row.chance = chances(row);
        return row;
    }

    std::function<double(std::int64_t)> chances(const JudgedRow& row) const {
        if (setting_.scorer != "random") {
            return [kept = row.kept](std::int64_t j) {
                return std::find(kept.begin(), kept.end(), j) != kept.end() ? 1.0 : 0.0;
            };
        }
        const auto routed = static_cast<double>(setting_.topk - 1);
        const auto own = static_cast<double>(row.own);
        if (!setting_.keep_first || setting_.topk == 1) {
            return [=](std::int64_t) { return std::min(1.0, routed / own); };
        }
        return [=](std::int64_t j) { return j == 0 ? 1.0 : std::min(1.0, (routed - 1.0) / (own - 1.0)); };
    }

    double mass(const JudgedRow& row, std::int64_t j, bool no0) const {
        const auto first = row.weights.begin() + j * setting_.block_size;
        return std::accumulate(first + (no0 && j == 0 ? 1 : 0), first + setting_.block_size, 0.0);
    }

    /// Attention over own and kept blocks.
    Values attention(const JudgedRow& row, bool dense) const {
        Values out(head_.v.front().size());
        double total = 0.0;
        for (std::size_t t = 0; t < row.weights.size(); ++t) {
            const std::int64_t j = static_cast<std::int64_t>(t) / setting_.block_size;
            if (dense || j == row.own || std::find(row.kept.begin(), row.kept.end(), j) != row.kept.end()) {
                total += row.weights[t];
                for (std::size_t c = 0; c < out.size(); ++c) {
                    out[c] += row.weights[t] * head_.v[t][c];
                }
            }
        }
        for (double& value : out) {
            value /= total;
        }
        return out;
    }

    void add_scores(std::map<std::string, double>& columns) const;
    void add_keys(std::map<std::string, double>& columns) const;

    const JudgedHead& head_;
    const Rows& affinities_;
    const JudgedSetting& setting_;
    std::vector<JudgedRow> rows_;
    mutable std::map<std::pair<std::string, bool>, std::map<std::pair<std::int64_t, std::size_t>, Values>> summaries_;
};

/// Totals by query block.
class Totals {
public:
    explicit Totals(std::int64_t block_size) : positions_(std::max<std::int64_t>(block_size, 128)) {}
    void add(std::int64_t position, double value, double weight = 1.0) {
        clusters_[position / positions_].sum += value;
        clusters_[position / positions_].weight += weight;
        weight_ += weight;
    }
    double weight() const { return weight_; }
    std::vector<analysis::ClusterTotal> clusters() const {
        std::vector<analysis::ClusterTotal> all;
        for (const auto& [number, cluster] : clusters_) {
            all.push_back(cluster);
        }
        return all;
    }

private:
    std::int64_t positions_;
    double weight_ = 0.0;
    std::map<std::int64_t, analysis::ClusterTotal> clusters_;
};

void put(std::map<std::string, double>& columns, const std::string& name, const analysis::Interval& interval) {
    const bool known = !std::isnan(interval.value);
    columns[name] = interval.value;
    columns[name + "_low"] = known ? interval.low : nan;
    columns[name + "_high"] = known ? interval.high : nan;
}

double mean_or_nan(const Values& values) {
    return values.empty() ? nan : mean(values);
}

std::map<std::string, double> Judge::columns(double confidence) const {
    const double alpha = 1.0 - confidence;
    std::map<std::string, Totals> totals;
    for (const char* name : {"mass_recall", "mass_recall_no0", "lost_mass", "needle_hit", "distant_hit", "fact_hit",
                             "output_error", "rounding_changed"}) {
        totals.emplace(name, Totals(setting_.block_size));
    }
    Values own_share, window_share, sink_share;
    for (const JudgedRow& row : rows_) {
        double past = 0.0, past_no0 = 0.0, got = 0.0, got_no0 = 0.0, drawn = 0.0, latest = 0.0;
        for (std::int64_t j = 0; j < row.own; ++j) {
            past += mass(row, j, false);
            past_no0 += mass(row, j, true);
            got += row.chance(j) * mass(row, j, false);
            got_no0 += row.chance(j) * mass(row, j, true);
        }
        for (const std::int64_t j : row.kept) {
            drawn += mass(row, j, false);
            latest += j >= row.own - (setting_.topk - 1) ? 1.0 : 0.0;
        }
        totals.at("mass_recall").add(row.position, got / past);
        totals.at("mass_recall_no0").add(row.position, got_no0 / past_no0);
        totals.at("lost_mass").add(row.position, past - got);
        if (row.needle >= 0) {
            totals.at("needle_hit").add(row.position, row.chance(row.needle));
        }
        if (row.distant >= 0) {
            totals.at("distant_hit").add(row.position, row.chance(row.distant));
        }
        for (const auto& [query, key] : head_.facts) {
            if (query == row.position && key / setting_.block_size < row.own) {
                totals.at("fact_hit").add(row.position, row.chance(key / setting_.block_size));
            }
        }
        const Values out = attention(row, false), dense = attention(row, true);
        double error = 0.0;
        for (std::size_t c = 0; c < out.size(); ++c) {
            error += (out[c] - dense[c]) * (out[c] - dense[c]);
        }
        totals.at("output_error").add(row.position, error, dot(dense, dense));
        if (head_.bf16 && !reference() && setting_.scorer != "random") {
            const bool same = std::set(row.kept.begin(), row.kept.end()) ==
                              std::set(row.kept_unrounded.begin(), row.kept_unrounded.end());
            totals.at("rounding_changed").add(row.position, same ? 0.0 : 1.0);
        }
        if (1.0 - past + drawn >= 1e-3) {
            own_share.push_back((1.0 - past) / (1.0 - past + drawn));
        }
        if (!row.kept.empty()) {
            window_share.push_back(latest / static_cast<double>(row.kept.size()));
        }
        sink_share.push_back(std::find(row.kept.begin(), row.kept.end(), 0) != row.kept.end() ? 1.0 : 0.0);
    }

    std::map<std::string, double> columns;
    columns["rows"] = static_cast<double>(rows_.size());
    columns["query_blocks"] = static_cast<double>(totals.at("lost_mass").clusters().size());
    columns["needle_rows"] = totals.at("needle_hit").weight();
    columns["distant_rows"] = totals.at("distant_hit").weight();
    columns["fact_pairs"] = totals.at("fact_hit").weight();
    for (const char* name : {"mass_recall", "mass_recall_no0", "lost_mass"}) {
        put(columns, name, analysis::clustered_mean(totals.at(name).clusters(), alpha));
    }
    for (const char* name : {"needle_hit", "distant_hit", "fact_hit", "rounding_changed"}) {
        put(columns, name, analysis::clustered_share(totals.at(name).clusters(), alpha));
    }
    analysis::Interval error = analysis::clustered_ratio(totals.at("output_error").clusters(), alpha);
    put(columns, "output_error", {std::sqrt(error.low), std::sqrt(error.value), std::sqrt(error.high)});
    columns["own_share"] = mean(own_share);
    columns["window_share"] = mean_or_nan(window_share);
    columns["sink_share"] = mean(sink_share);
    add_scores(columns);
    add_keys(columns);
    return columns;
}

void Judge::add_scores(std::map<std::string, double>& columns) const {
    Values margins, needles, mass_first, mass_second, noise;
    std::map<std::int64_t, Values> by_distance;
    Values all;
    double key_variance = 0.0;
    for (std::size_t c = 0; c < head_.k.front().size(); ++c) {
        Values channel;
        for (const Values& key : head_.k) {
            channel.push_back(key[c]);
        }
        key_variance += variance(channel);
    }
    for (const JudgedRow& row : rows_) {
        const double spread = row.scores.empty() ? 0.0 : std::sqrt(variance(row.scores));
        if (!has_scores() || row.scores.size() < 3 || !(spread > 0.0)) {
            continue;
        }
        const auto against_others = [&](std::int64_t j) {
            Values others = row.scores;
            others.erase(others.begin() + j);
            return (row.scores[static_cast<std::size_t>(j)] - mean(others)) / std::sqrt(variance(others));
        };
        double first = 0.0, second = 0.0;
        for (std::int64_t j = 0; j < row.own; ++j) {
            const double z = against_others(j);
            first += row.masses[static_cast<std::size_t>(j)] * z;
            second += row.masses[static_cast<std::size_t>(j)] * z * z;
            const double score = (row.scores[static_cast<std::size_t>(j)] - mean(row.scores)) / spread;
            by_distance[row.own - j].push_back(score);
            all.push_back(score);
        }
        const double past = std::accumulate(row.masses.begin(), row.masses.end(), 0.0);
        mass_first.push_back(first / past);
        mass_second.push_back(second / past);
        if (row.needle >= 0) {
            needles.push_back(against_others(row.needle));
        }
        const Values& q = head_.q[static_cast<std::size_t>(row.position - head_.q_start)];
        noise.push_back(spread * spread / (dot(q, q) * key_variance) *
                        static_cast<double>(static_cast<std::int64_t>(q.size()) * setting_.block_size));
        double last = nan, next = nan;  // lowest kept score, highest score left out
        for (std::int64_t j = 0; j < row.own; ++j) {
            const double score = row.scores[static_cast<std::size_t>(j)];
            const bool kept = std::find(row.kept.begin(), row.kept.end(), j) != row.kept.end();
            if (kept && !(setting_.keep_first && j == 0)) {
                last = std::isnan(last) ? score : std::min(last, score);
            } else if (!kept) {
                next = std::isnan(next) ? score : std::max(next, score);
            }
        }
        if (!std::isnan(last - next)) {
            margins.push_back((last - next) / spread);
        }
    }
    columns["margin"] = mean_or_nan(margins);
    double explained = 0.0;
    for (const auto& [distance, scores] : by_distance) {
        explained += static_cast<double>(scores.size()) * std::pow(mean(scores) - mean(all), 2);
    }
    columns["distance_r2"] = all.empty() ? nan : explained / (static_cast<double>(all.size()) * variance(all));
    columns["needle_a"] = mean_or_nan(needles);
    columns["needle_r"] = needles.empty() ? nan : std::sqrt(variance(needles));
    columns["mass_a"] = mean_or_nan(mass_first);
    columns["mass_r"] = mass_first.empty() ? nan : std::sqrt(mean(mass_second) - mean(mass_first) * mean(mass_first));
    columns["noise_variance_db"] = reference() ? nan : mean_or_nan(noise);
}

void Judge::add_keys(std::map<std::string, double>& columns) const {
    const std::size_t d = head_.k.front().size();
    const Values centre = [&] {
        Values sum(d);
        for (const Values& key : head_.k) {
            for (std::size_t c = 0; c < d; ++c) {
                sum[c] += key[c] / static_cast<double>(head_.k.size());
            }
        }
        return sum;
    }();
    Rows centred = head_.k;
    double squares = 0.0;
    for (Values& key : centred) {
        squares += dot(key, key) / static_cast<double>(centred.size());
        for (std::size_t c = 0; c < d; ++c) {
            key[c] -= centre[c];
        }
    }
    columns["shared_mean"] = std::sqrt(dot(centre, centre) / squares);
    double trace = 0.0, norm = 0.0;
    for (std::size_t a = 0; a < d; ++a) {
        for (std::size_t b = 0; b < d; ++b) {
            double covariance = 0.0;
            for (const Values& key : centred) {
                covariance += key[a] * key[b];
            }
            trace += a == b ? covariance : 0.0;
            norm += covariance * covariance;
        }
    }
    columns["effective_dimension"] = trace * trace / norm;
    for (const std::size_t lag : {1U, 4U, 16U, 64U}) {
        Values cosines;
        for (std::size_t t = 0; t + lag < centred.size(); ++t) {
            const Values& a = centred[t];
            const Values& b = centred[t + lag];
            cosines.push_back(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)));
        }
        columns["key_cosine_" + std::to_string(lag)] = mean(cosines);
    }
}

}  // namespace

Rows affinities(const JudgedHead& head) {
    Rows rows;
    for (std::size_t r = 0; r < head.q.size(); ++r) {
        Values& z = rows.emplace_back();
        for (std::size_t t = 0; t <= static_cast<std::size_t>(head.q_start) + r; ++t) {
            z.push_back(dot(head.q[r], head.k[t]));
        }
    }
    return rows;
}

std::map<std::string, double> judge(const JudgedHead& head, const Rows& affinities, const JudgedSetting& setting,
                                    double confidence) {
    return Judge(head, affinities, setting).columns(confidence);
}

JudgedDistances judged_distances(const JudgedHead& head, const Rows& affinities, const JudgedSetting& setting) {
    return Judge(head, affinities, setting).distances();
}

}  // namespace mobalab::experiments
