#include "experiments/point_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <mutex>
#include <thread>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/paper_formulas.h"
#include "experiments/parallel_for.h"
#include "experiments/values.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

constexpr std::size_t most_points = 1'000'000;
constexpr std::size_t named_mistakes = 5;
constexpr std::int64_t longest_sequence = std::int64_t{1} << 40;

/// One way to vary a point: the values of one flag.
using Axis = std::vector<std::function<void(RoutingPoint&)>>;

template <typename Value, typename Field>
Axis axis_of(const std::vector<Value>& values, Field field) {
    Axis axis;
    for (const Value value : values) {
        axis.emplace_back([value, field](RoutingPoint& point) { point.*field = value; });
    }
    return axis;
}

Axis integer_axis(const Arguments& arguments, const std::string& flag, std::int64_t RoutingPoint::*field,
                  std::int64_t least, std::int64_t most) {
    return arguments.has(flag) ? axis_of(arguments.integers(flag, least, most), field) : Axis();
}

Axis real_axis(const Arguments& arguments, const std::string& flag, double RoutingPoint::*field, double least,
               double most = 1.0) {
    return arguments.has(flag) ? axis_of(arguments.reals(flag, least, most), field) : Axis();
}

template <typename Enum>
Axis named_axis(const Arguments& arguments, const std::string& flag, Enum RoutingPoint::*field,
                Enum (*parse)(std::string_view), const std::vector<std::string>& names) {
    std::vector<Enum> values;
    if (arguments.has(flag)) {
        for (const std::string& name : arguments.choices(flag, names)) {
            values.push_back(parse(name));
        }
    }
    return axis_of(values, field);
}

/// --seq-len, unless --candidates was given.
Axis length_axis(const Arguments& arguments) {
    const bool by_candidates = arguments.has("candidates") && arguments.given("candidates");
    if (by_candidates && arguments.has("seq-len") && arguments.given("seq-len")) {
        throw InputError(
            fmt::format("candidates = {}, seq-len = {}: give one of the two (candidates of the last query "
                        "are ceil(seq-len / block-size) - 1)",
                        arguments.text("candidates"), arguments.text("seq-len")));
    }
    return by_candidates ? integer_axis(arguments, "candidates", &RoutingPoint::candidates, 1, 1'000'000)
                         : integer_axis(arguments, "seq-len", &RoutingPoint::seq_len, 1, longest_sequence);
}

std::vector<Axis> axes(const Arguments& arguments) {
    return {named_axis(arguments, "model", &RoutingPoint::model, analysis::parse_model,
                       {"gaussian", "gaussian-fixed", "sphere", "vector"}),
            integer_axis(arguments, "head-dim", &RoutingPoint::head_dim, 2, no_limit),
            integer_axis(arguments, "block-size", &RoutingPoint::block_size, 1, no_limit),
            length_axis(arguments),
            integer_axis(arguments, "topk", &RoutingPoint::topk, 1, 512),
            real_axis(arguments, "mu-signal", &RoutingPoint::mu_signal, 0.0),
            real_axis(arguments, "mu-noise", &RoutingPoint::mu_noise, -1.0),
            real_axis(arguments, "mu-cluster", &RoutingPoint::mu_cluster, -1.0),
            integer_axis(arguments, "cluster-size", &RoutingPoint::cluster_size, 1, no_limit),
            integer_axis(arguments, "needles", &RoutingPoint::needles, 1, 512),
            named_axis(arguments, "goal", &RoutingPoint::goal, analysis::parse_goal, {"each", "any", "all"}),
            real_axis(arguments, "key-correlation", &RoutingPoint::key_correlation, 0.0),
            integer_axis(arguments, "key-conv", &RoutingPoint::key_conv, 0, 8),
            real_axis(arguments, "key-conv-tap", &RoutingPoint::key_conv_tap, -8.0, 8.0),
            named_axis(arguments, "key-conv-activation", &RoutingPoint::key_conv_activation, analysis::parse_activation,
                       {"silu", "none"})};
}

std::vector<RoutingPoint> cross_product(const std::vector<Axis>& axes) {
    std::vector<RoutingPoint> points(1);
    for (const Axis& axis : axes) {
        if (axis.empty()) {
            continue;
        }
        if (points.size() * axis.size() > most_points) {
            throw InputError(
                fmt::format("the lists make more than {} points; a grid holds at most {}", most_points, most_points));
        }
        std::vector<RoutingPoint> next;
        for (const RoutingPoint& point : points) {
            for (const auto& set : axis) {
                next.push_back(point);
                set(next.back());
            }
        }
        points = std::move(next);
    }
    return points;
}

/// Why the combination cannot exist; empty when it can. Fills in the candidates of a point asked for by its length.
std::string mistake(RoutingPoint& point) {
    if (point.cluster_size > point.block_size) {
        return fmt::format("cluster-size = {} with block-size = {}: must be at most the block size; nearest valid: {}",
                           point.cluster_size, point.block_size, point.block_size);
    }
    if (point.seq_len > 0) {
        point.candidates = analysis::candidates_of_last_query(point.seq_len, point.block_size);
        if (point.candidates < 1) {
            return fmt::format(
                "seq-len = {} with block-size = {}: must leave a block before the last query's own; "
                "nearest valid: {}",
                point.seq_len, point.block_size, point.block_size + 1);
        }
    }
    if (point.topk > point.candidates + 1) {
        const std::string blocks =
            point.seq_len > 0 ? fmt::format("seq-len = {} and block-size = {}", point.seq_len, point.block_size)
                              : fmt::format("candidates = {}", point.candidates);
        return fmt::format(
            "topk = {} with {}: must be at most the number of blocks, the own one included; nearest "
            "valid: {}",
            point.topk, blocks, point.candidates + 1);
    }
    try {
        analysis::validate(point);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

void add_mistake(std::vector<std::string>& mistakes, const std::string& text) {
    if (!text.empty() && std::find(mistakes.begin(), mistakes.end(), text) == mistakes.end()) {
        mistakes.push_back(text);
    }
}

void refuse(std::vector<std::string> mistakes) {
    if (mistakes.size() > named_mistakes) {
        const std::size_t more = mistakes.size() - named_mistakes;
        mistakes.resize(named_mistakes);
        mistakes.push_back(fmt::format("and {} more impossible combination{}", more, more == 1 ? "" : "s"));
    }
    throw InputError(fmt::format("{}", fmt::join(mistakes, "\n")));
}

template <typename Value, typename Get>
Column column_of(const std::vector<RoutingPoint>& points, std::string name, std::string long_name, Get get) {
    std::vector<Value> values;
    std::transform(points.begin(), points.end(), std::back_inserter(values), get);
    return {std::move(name), std::move(long_name), std::is_same_v<Value, std::string> ? "" : "1", std::move(values)};
}

}  // namespace

std::vector<Flag> point_flags() {
    return {{"model", "LIST", "sphere", "law of the affinities: gaussian, gaussian-fixed, sphere, vector"},
            {"head-dim", "LIST", "64", "width d of a head"},
            {"block-size", "LIST", "64", "keys B of a block"},
            {"seq-len", "LIST", "8K", "tokens N; the question is asked of the last query"},
            {"candidates", "LIST", "", "instead of --seq-len: past blocks that compete, the needle's included"},
            {"topk", "LIST", "8", "blocks k a query attends to, its own included"},
            {"mu-signal", "LIST", "0.8", "expected affinity of the needle"},
            {"mu-noise", "LIST", "0", "expected affinity of a noise key (0 for sphere and vector)"},
            {"mu-cluster", "LIST", "0", "expected affinity of each other token of the needle's cluster"},
            {"cluster-size", "LIST", "1", "related tokens m in the needle's block, the needle included"}};
}

std::vector<Flag> needle_flags() {
    return {
        {"needles", "LIST", "1", "needles R, each with a cluster in a block of its own; they compete for the slots"},
        {"goal", "LIST", "each",
         "what a hit is with several needles: each (a given one is found; the expected share found), any or all"},
        {"key-correlation", "LIST", "0", "correlation of the random keys of a block, from 0 to 1"}};
}

std::vector<Flag> key_conv_flags() {
    return {{"key-conv", "LIST", "0", "width W of the keys' causal convolution k + f(tap * last W keys), 0 for none"},
            {"key-conv-tap", "LIST", "1", "its weight at every lag"},
            {"key-conv-activation", "LIST", "silu", "its f: silu, as in the kernels, or none"}};
}

std::vector<Flag> point_flags_without(const std::vector<std::string>& names) {
    std::vector<Flag> flags = point_flags();
    std::erase_if(flags, [&](const Flag& flag) { return std::count(names.begin(), names.end(), flag.name) != 0; });
    return flags;
}

std::vector<RoutingPoint> point_grid(const Arguments& arguments, const std::string& unknown) {
    std::vector<RoutingPoint> points = cross_product(axes(arguments.without(unknown)));
    std::vector<std::string> mistakes;
    for (RoutingPoint& point : points) {
        point.topk = unknown == "topk" ? 1 : point.topk;
        if (unknown == "block-size") {  // the smallest that makes a valid point
            const std::int64_t fewest_keys = (point.seq_len + 1'000'000) / 1'000'001;
            point.block_size = std::max(point.cluster_size, fewest_keys);
        }
        add_mistake(mistakes, mistake(point));
    }
    if (!mistakes.empty()) {
        refuse(std::move(mistakes));
    }
    return points;
}

std::vector<Column> point_columns(const std::vector<RoutingPoint>& points) {
    const auto integers = [&](std::string name, std::string long_name, auto get) {
        return column_of<std::int64_t>(points, std::move(name), std::move(long_name), get);
    };
    const auto reals = [&](std::string name, std::string long_name, auto get) {
        return column_of<double>(points, std::move(name), std::move(long_name), get);
    };
    std::vector<Column> columns = {
        column_of<std::string>(points, "model", "law of the affinities",
                               [](const RoutingPoint& point) { return std::string(to_string(point.model)); }),
        integers("head_dim", "head width d", std::mem_fn(&RoutingPoint::head_dim)),
        integers("block_size", "keys a block, B", std::mem_fn(&RoutingPoint::block_size)),
        integers("seq_len", "tokens N; 0 when asked for by candidates", std::mem_fn(&RoutingPoint::seq_len)),
        integers("candidates", "past blocks that compete", std::mem_fn(&RoutingPoint::candidates)),
        integers("topk", "blocks a query attends to, its own included", std::mem_fn(&RoutingPoint::topk)),
        integers("cluster_size", "related tokens m in the signal block", std::mem_fn(&RoutingPoint::cluster_size)),
        reals("mu_signal", "expected affinity of the needle", std::mem_fn(&RoutingPoint::mu_signal)),
        reals("mu_noise", "expected affinity of a noise key", std::mem_fn(&RoutingPoint::mu_noise)),
        reals("mu_cluster", "expected affinity of the cluster's other tokens", std::mem_fn(&RoutingPoint::mu_cluster)),
        reals("delta_mu_eff", "delta_mu + (m - 1)(mu_cluster - mu_noise)", std::mem_fn(&RoutingPoint::delta_mu_eff))};
    const auto texts = [&](std::string name, std::string long_name, auto get) {
        return column_of<std::string>(points, std::move(name), std::move(long_name), get);
    };
    const auto some = [&](auto has) { return std::any_of(points.begin(), points.end(), has); };
    if (some([](const RoutingPoint& point) { return point.needles > 1; })) {
        columns.push_back(
            integers("needles", "needles R, each in a block of its own", std::mem_fn(&RoutingPoint::needles)));
        columns.push_back(texts("goal", "needles a hit must find: a given one (each), any, all",
                                [](const RoutingPoint& point) { return std::string(to_string(point.goal)); }));
    }
    if (some([](const RoutingPoint& point) { return point.key_correlation > 0.0; })) {
        columns.push_back(reals("key_correlation", "correlation of the random keys of a block",
                                std::mem_fn(&RoutingPoint::key_correlation)));
    }
    if (some([](const RoutingPoint& point) { return point.key_conv > 0; })) {
        columns.push_back(
            integers("key_conv", "width of the key convolution, 0: none", std::mem_fn(&RoutingPoint::key_conv)));
        columns.push_back(reals("key_conv_tap", "weight of the key convolution at every lag",
                                std::mem_fn(&RoutingPoint::key_conv_tap)));
        columns.push_back(
            texts("key_conv_activation", "activation of the key convolution",
                  [](const RoutingPoint& point) { return std::string(to_string(point.key_conv_activation)); }));
    }
    return columns;
}

std::vector<Column> theory_columns(const std::vector<RoutingPoint>& points, const PointsDone& done) {
    std::vector<double> hit(points.size(), std::nan(""));
    std::vector<double> miss(points.size(), std::nan(""));
    std::vector<double> log_miss(points.size(), std::nan(""));
    const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    std::mutex mutex;
    std::size_t count = 0;
    parallel_for(points.size(), threads, [&](std::size_t i) {
        if (analysis::has_exact_probability(points[i])) {
            const analysis::HitProbability probability = analysis::exact_hit_probability(points[i]);
            hit[i] = probability.hit();
            miss[i] = probability.miss();
            log_miss[i] = probability.log_miss;
        }
        if (done) {
            const std::lock_guard lock(mutex);
            done(++count);
        }
    });
    return {column_of<double>(points, "snr", "delta_mu_eff sqrt(d / (2 B))", analysis::snr),
            column_of<double>(points, "pairwise_miss", "paper: one noise block outranks the signal block",
                              analysis::pairwise_miss),
            column_of<double>(points, "reliable_snr", "paper: snr above which routing is reliable",
                              analysis::reliable_snr_threshold),
            {"hit_probability", "exact probability that the signal block is routed", "1", std::move(hit)},
            {"miss_probability", "exact probability that the signal block is not routed", "1", std::move(miss)},
            {"log_miss_probability", "natural log of miss_probability", "1", std::move(log_miss)}};
}

}  // namespace mobalab::experiments
