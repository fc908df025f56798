#include "experiments/points/point_grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "analysis/hit_probability.h"
#include "analysis/hit_problem.h"
#include "analysis/limits.h"
#include "analysis/paper_formulas.h"
#include "analysis/scorer_approximation.h"
#include "experiments/base/parallel_for.h"
#include "experiments/base/values.h"
#include "experiments/results/csv_text.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using analysis::RoutingPoint;

constexpr std::size_t most_points = 1'000'000;
constexpr std::size_t named_mistakes = 5;
constexpr std::int64_t longest_sequence = std::int64_t{1} << 40;
constexpr double most_effective_dim = 1e9;  // what a point's head_dim allows validate() says

/// A point in the making.
struct Draft {
    RoutingPoint point = {};
    std::int64_t budget = 0;  ///< becomes the topk once the block size is known; 0: none
    std::int64_t line = 0;    ///< of the file of points; 0: from flags alone
};

/// One way to vary a point: the values of one flag.
using Axis = std::vector<std::function<void(Draft&)>>;

template <typename Value, typename Field>
Axis axis_of(const std::vector<Value>& values, Field field) {
    Axis axis;
    for (const Value value : values) {
        axis.emplace_back([value, field](Draft& draft) { draft.point.*field = value; });
    }
    return axis;
}

/// A flag that says what a point is, and how its list is read.
struct AxisFlag {
    std::string name;
    std::function<Axis(const Arguments&)> read;
};

AxisFlag integer_axis(const std::string& flag, std::int64_t RoutingPoint::*field, std::int64_t least,
                      std::int64_t most) {
    return {flag, [=](const Arguments& arguments) { return axis_of(arguments.integers(flag, least, most), field); }};
}

AxisFlag real_axis(const std::string& flag, double RoutingPoint::*field, double least, double most = 1.0) {
    return {flag, [=](const Arguments& arguments) { return axis_of(arguments.reals(flag, least, most), field); }};
}

template <typename Enum>
AxisFlag named_axis(const std::string& flag, Enum RoutingPoint::*field, Enum (*parse)(std::string_view),
                    const std::vector<std::string>& names) {
    return {flag, [=](const Arguments& arguments) {
                std::vector<Enum> values;
                for (const std::string& name : arguments.choices(flag, names)) {
                    values.push_back(parse(name));
                }
                return axis_of(values, field);
            }};
}

Axis budgets(const Arguments& arguments) {
    Axis axis;
    for (const std::int64_t budget : arguments.integers("budget", 1, longest_sequence)) {
        axis.emplace_back([budget](Draft& draft) { draft.budget = budget; });
    }
    return axis;
}

Axis scorers(const Arguments& arguments) {
    std::vector<analysis::Scorer> values;
    for (const std::string& name : arguments.texts("scorer")) {
        values.push_back(analysis::parse_scorer(name));
        if (std::count(values.begin(), values.end(), values.back()) > 1) {
            throw InputError(fmt::format("scorer = {}: {} appears twice; a list names each value once",
                                         arguments.text("scorer"), name));
        }
    }
    return axis_of(values, &RoutingPoint::scorer);
}

/// In the order in which they vary.
const std::vector<AxisFlag>& axis_flags() {
    static const std::vector<AxisFlag> all = {
        named_axis("model", &RoutingPoint::model, analysis::parse_model, analysis::key_model_names()),
        integer_axis("head-dim", &RoutingPoint::head_dim, analysis::least_head_dim, no_limit),
        integer_axis("block-size", &RoutingPoint::block_size, 1, no_limit),
        integer_axis("seq-len", &RoutingPoint::seq_len, 1, longest_sequence),
        integer_axis("candidates", &RoutingPoint::candidates, 1, analysis::most_candidates),
        integer_axis("topk", &RoutingPoint::topk, 1, analysis::most_topk),
        {"budget", budgets},
        real_axis("mu-signal", &RoutingPoint::mu_signal, 0.0),
        real_axis("mu-noise", &RoutingPoint::mu_noise, -1.0),
        real_axis("mu-cluster", &RoutingPoint::mu_cluster, -1.0),
        integer_axis("cluster-size", &RoutingPoint::cluster_size, 1, no_limit),
        integer_axis("needles", &RoutingPoint::needles, 1, analysis::most_needles),
        named_axis("goal", &RoutingPoint::goal, analysis::parse_goal, {"each", "any", "all"}),
        real_axis("key-correlation", &RoutingPoint::key_correlation, 0.0),
        integer_axis("key-memory", &RoutingPoint::key_memory, 0, analysis::most_key_memory),
        real_axis("key-mean", &RoutingPoint::key_mean, 0.0, analysis::most_key_mean),
        real_axis("query-mean", &RoutingPoint::query_mean, -1.0),
        real_axis("effective-dim", &RoutingPoint::effective_dim, 0.0, most_effective_dim),
        real_axis("sink", &RoutingPoint::sink, 0.0, analysis::most_sink),
        integer_axis("key-conv", &RoutingPoint::key_conv, 0, analysis::most_key_conv),
        real_axis("key-conv-tap", &RoutingPoint::key_conv_tap, -analysis::most_key_conv_tap,
                  analysis::most_key_conv_tap),
        named_axis("key-conv-activation", &RoutingPoint::key_conv_activation, analysis::parse_activation,
                   {"silu", "none"}),
        {"scorer", scorers}};
    return all;
}

/// Flags of which one at most says what the point is, and why.
struct Alternatives {
    std::string usual;    ///< has a default
    std::string instead;  ///< has none
    std::string rule;
};

const std::vector<Alternatives>& alternatives() {
    static const std::vector<Alternatives> all = {
        {"seq-len", "candidates", "candidates of the last query are ceil(seq-len / block-size) - 1"},
        {"topk", "budget", "a budget of keys makes topk = budget / block-size"}};
    return all;
}

/// --points: the file's columns and rows.
struct PointsFile {
    std::string path;
    std::map<std::string, std::string> columns;  ///< by flag: the name in the file
    std::vector<Draft> rows;
};

/// What the points are made of.
class AxisSources {
public:
    AxisSources(const Arguments& arguments, const PointsFile* file) : arguments_(arguments), file_(file) {
        for (const Alternatives& pair : alternatives()) {
            if (said(pair.usual) && said(pair.instead)) {
                throw InputError(
                    fmt::format("{}, {}: give one of the two ({})", told(pair.instead), told(pair.usual), pair.rule));
            }
        }
        for (const AxisFlag& flag : axis_flags()) {
            if (in_file(flag.name) && given(flag.name)) {
                throw InputError(fmt::format("{} = {}: is a column of {} too; give one of the two", flag.name,
                                             arguments_.text(flag.name), file_->path));
            }
        }
    }

    /// By the user, in one way or the other.
    bool said(const std::string& flag) const { return in_file(flag) || given(flag); }

    /// The lists that the file's rows, or one default point, are combined with.
    std::vector<Axis> axes() const {
        std::vector<Axis> axes;
        for (const AxisFlag& flag : axis_flags()) {
            if (!in_file(flag.name) && arguments_.has(flag.name) && counts(flag.name)) {
                axes.push_back(flag.read(arguments_));
            }
        }
        return axes;
    }

private:
    bool given(const std::string& flag) const { return arguments_.has(flag) && arguments_.given(flag); }
    bool in_file(const std::string& flag) const { return file_ != nullptr && file_->columns.contains(flag); }

    std::string told(const std::string& flag) const {
        return in_file(flag) ? fmt::format("{} (a column of {})", flag, file_->path)
                             : fmt::format("{} = {}", flag, arguments_.text(flag));
    }

    /// Of two alternatives the one that was said, else the usual one.
    bool counts(const std::string& flag) const {
        return std::all_of(alternatives().begin(), alternatives().end(), [&](const Alternatives& pair) {
            return (flag != pair.usual || !said(pair.instead)) && (flag != pair.instead || said(pair.instead));
        });
    }

    const Arguments& arguments_;
    const PointsFile* file_;
};

std::string flag_named(std::string column) {
    std::replace(column.begin(), column.end(), '_', '-');
    return column;
}

/// The axes of a file's columns, in their order.
std::vector<const AxisFlag*> axes_of_columns(const Arguments& arguments, const CsvRows& csv, PointsFile& file) {
    std::vector<std::string> known;
    for (const AxisFlag& flag : axis_flags()) {
        if (arguments.has(flag.name)) {
            known.push_back(flag.name);
        }
    }
    std::vector<const AxisFlag*> axes;
    for (const std::string& column : csv.header) {
        const std::string name = flag_named(column);
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            throw InputError(fmt::format(
                "{}, line 1: the column {} is nothing that a point of this command has: must "
                "be one of {}{}",
                file.path, column.empty() ? "(nothing)" : column, fmt::join(known, ", "), nearest_hint(name, known)));
        }
        if (!file.columns.try_emplace(name, column).second) {
            throw InputError(fmt::format("{}, line 1: the column {} appears twice", file.path, column));
        }
        axes.push_back(&*std::find_if(axis_flags().begin(), axis_flags().end(),
                                      [&](const AxisFlag& flag) { return flag.name == name; }));
    }
    return axes;
}

/// One cell, by the rules of its flag.
void set_cell(const AxisFlag& flag, const std::string& column, const std::string& cell, const std::string& where,
              Draft& draft) {
    const std::string place = fmt::format("{}, line {}, column {}", where, draft.line, column);
    if (cell.empty()) {
        throw InputError(place + ": is empty; every row has a value of every column");
    }
    Axis values;
    try {
        values = flag.read(Arguments({{flag.name, {cell, true}}}, ""));
    } catch (const InputError& error) {
        throw InputError(fmt::format("{}: {}", place, error.what()));
    }
    if (values.size() != 1 || cell.find_first_of(",:") != std::string::npos) {
        throw InputError(fmt::format("{}: {} = {}: a cell holds one value, no list", place, flag.name, cell));
    }
    values.front()(draft);
}

std::string identity_of(const Draft& draft) {
    return fmt::format("{};seq_len={};budget={}", analysis::canonical_text(draft.point), draft.point.seq_len,
                       draft.budget);
}

PointsFile read_points(const Arguments& arguments) {
    PointsFile file{arguments.text("points"), {}, {}};
    const CsvRows csv = read_csv(file.path, most_points);
    const std::vector<const AxisFlag*> axes = axes_of_columns(arguments, csv, file);
    std::map<std::string, std::int64_t> lines;
    for (const CsvRows::Row& row : csv.rows) {
        Draft draft;
        draft.line = row.line;
        for (std::size_t i = 0; i < axes.size(); ++i) {
            set_cell(*axes[i], csv.header[i], row.cells[i], file.path, draft);
        }
        const auto [earlier, fresh] = lines.try_emplace(identity_of(draft), row.line);
        if (!fresh) {
            throw InputError(fmt::format("{}, line {}: says what line {} says; a file names each point once", file.path,
                                         row.line, earlier->second));
        }
        file.rows.push_back(draft);
    }
    if (file.rows.empty()) {
        throw InputError(file.path + ": holds no points; below the names of its columns there is one a line");
    }
    return file;
}

std::vector<Draft> cross_product(std::vector<Draft> drafts, const std::vector<Axis>& axes) {
    for (const Axis& axis : axes) {
        if (drafts.size() * axis.size() > most_points) {
            throw InputError(
                fmt::format("the lists make more than {} points; a grid holds at most {}", most_points, most_points));
        }
        std::vector<Draft> next;
        next.reserve(drafts.size() * axis.size());
        for (const Draft& draft : drafts) {
            for (const auto& set : axis) {
                next.push_back(draft);
                set(next.back());
            }
        }
        drafts = std::move(next);
    }
    return drafts;
}

/// Why a budget makes no topk; empty when it does, and then the point has it.
std::string mistake_of_budget(Draft& draft) {
    const std::int64_t size = draft.point.block_size;
    if (draft.budget % size != 0) {
        return fmt::format("budget = {} with block-size = {}: must be whole blocks; nearest valid: {}", draft.budget,
                           size, std::max<std::int64_t>(1, (draft.budget + size / 2) / size) * size);
    }
    if (draft.budget / size > analysis::most_topk) {
        return fmt::format("budget = {} with block-size = {}: must be at most {} blocks; nearest valid: {}",
                           draft.budget, size, analysis::most_topk, analysis::most_topk * size);
    }
    draft.point.topk = draft.budget / size;
    return "";
}

/// Why the combination cannot exist; empty when it can. Fills in the candidates of a point asked for by its length and
/// the topk of one asked for by a budget.
std::string mistake(Draft& draft) {
    RoutingPoint& point = draft.point;
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
    if (draft.budget > 0) {
        if (const std::string text = mistake_of_budget(draft); !text.empty()) {
            return text;
        }
    }
    if (point.topk > point.candidates + 1) {
        const std::string blocks =
            point.seq_len > 0 ? fmt::format("seq-len = {} and block-size = {}", point.seq_len, point.block_size)
                              : fmt::format("candidates = {}", point.candidates);
        const std::string topk = draft.budget > 0 ? fmt::format("budget = {} (topk = {})", draft.budget, point.topk)
                                                  : fmt::format("topk = {}", point.topk);
        const std::int64_t nearest = (point.candidates + 1) * (draft.budget > 0 ? point.block_size : 1);
        return fmt::format(
            "{} with {}: must be at most the number of blocks, the own one included; nearest "
            "valid: {}",
            topk, blocks, nearest);
    }
    try {
        analysis::validate(point);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

/// The rules that points of a grid break, each once.
class Mistakes {
public:
    void add(const std::string& text) {
        ++points_;
        if (known_.insert(text).second && named_.size() < named_mistakes) {
            named_.push_back(text);
        }
    }

    std::int64_t points() const { return points_; }  ///< that break one
    const std::string& first() const { return named_.front(); }

    [[noreturn]] void refuse(const std::string& before, const std::string& behind) const {
        std::vector<std::string> lines = named_;
        if (!before.empty()) {
            lines.insert(lines.begin(), before);
        }
        if (const std::size_t more = known_.size() - named_.size(); more > 0) {
            lines.push_back(fmt::format("and {} more impossible combination{}", more, more == 1 ? "" : "s"));
        }
        if (!behind.empty()) {
            lines.push_back(behind);
        }
        throw InputError(fmt::format("{}", fmt::join(lines, "\n")));
    }

private:
    std::int64_t points_ = 0;
    std::set<std::string> known_;
    std::vector<std::string> named_;
};

void check_unknown(const AxisSources& sources, const std::string& unknown) {
    if (sources.said("budget") && (unknown == "topk" || unknown == "block-size")) {
        throw InputError(fmt::format("budget: makes topk of the block size; it does not go with --solve {}", unknown));
    }
}

template <typename Value, typename Get>
Column column_of(const std::vector<RoutingPoint>& points, std::string name, std::string long_name, Get get) {
    std::vector<Value> values;
    std::transform(points.begin(), points.end(), std::back_inserter(values), get);
    return {std::move(name), std::move(long_name), std::is_same_v<Value, std::string> ? "" : "1", std::move(values)};
}

/// The smallest block size that makes a valid point: it holds the cluster and leaves at most a million candidates.
std::int64_t smallest_valid_block(const RoutingPoint& point) {
    const std::int64_t fewest_keys = (point.seq_len + analysis::most_candidates) / (analysis::most_candidates + 1);
    return std::max(point.cluster_size, fewest_keys);
}

}  // namespace

std::vector<Flag> grid_flags() {
    return {{"budget", "LIST", "",
             "instead of --topk: keys a query attends to; topk = budget / block-size, which must be whole"},
            {"points", "PATH", "",
             "a CSV file of points, columns named like these flags; flags give what it has no column of"},
            {"skip-impossible", "", "",
             "leave out combinations that cannot exist (topk above the number of blocks, ...) and say how many"}};
}

void PointGrid::describe(Table& table) const {
    if (by_budget) {
        const auto topk = std::find_if(table.columns.begin(), table.columns.end(),
                                       [](const Column& column) { return column.name == "topk"; });
        std::vector<std::int64_t> keys = table.integers("topk");
        const std::vector<std::int64_t>& sizes = table.integers("block_size");
        std::transform(keys.begin(), keys.end(), sizes.begin(), keys.begin(), std::multiplies<>());
        table.columns.insert(topk + 1, {"budget", "keys a query attends to at most, topk * block_size", "1", keys});
    }
    if (skips) {
        table.attributes["left_out"] = left_out;
        table.attributes["first_left_out"] = first_left_out;
    }
}

std::string PointGrid::task_text() const {
    return (by_budget ? "budget\n" : "") + (skips ? fmt::format("left_out={}\n", left_out) : "");
}

void PointGrid::report(const std::string& command, Terminal& terminal) const {
    if (left_out > 0) {
        terminal.err << fmt::format("mobalab {}: left out {} of {} points as impossible, the first because of: {}\n",
                                    command, left_out, left_out + std::ssize(points), first_left_out);
    }
}

std::vector<Flag> point_flags() {
    return std::vector<Flag>{
               {"model", "LIST", "sphere",
                fmt::format("law of the affinities: {}", fmt::join(analysis::key_model_names(), ", "))},
               {"head-dim", "LIST", "64", "width d of a head"},
               {"block-size", "LIST", "64", "keys B of a block"},
               {"seq-len", "LIST", "8K", "tokens N; the question is asked of the last query"},
               {"candidates", "LIST", "", "instead of --seq-len: past blocks that compete, the needle's included"},
               {"topk", "LIST", "8", "blocks k a query attends to, its own included"},
               {"mu-signal", "LIST", "0.8", "expected affinity of the needle"},
               {"mu-noise", "LIST", "0", "expected affinity of a noise key (0 for sphere and vector)"},
               {"mu-cluster", "LIST", "0", "expected affinity of each other token of the needle's cluster"},
               {"cluster-size", "LIST", "1", "related tokens m in the needle's block, the needle included"}} +
           grid_flags();
}

std::vector<Flag> needle_flags() {
    return {
        {"needles", "LIST", "1", "needles R, each with a cluster in a block of its own; they compete for the slots"},
        {"goal", "LIST", "each",
         "what a hit is with several needles: each (a given one is found; the expected share found), any or all"}};
}

std::vector<Flag> text_flags() {
    return {
        {"key-correlation", "LIST", "0",
         "correlation of the random keys of a block, from 0 to 1; model text: share of the keys' variance that lasts"},
        {"key-memory", "LIST", "0", "model text: longest time constant of correlated keys in tokens, a power of 4"},
        {"key-mean", "LIST", "0", "model text: length of the keys' mean over their rms length, before RoPE"},
        {"query-mean", "LIST", "0", "model text: cosine of the query, its needle apart, with that mean"},
        {"effective-dim", "LIST", "0", "model text: effective dimension of the keys less their mean, 0 for all"},
        {"sink", "LIST", "0", "model text: what token 0 adds to every score q.k, in units of 1/sqrt(head-dim)"}};
}

std::vector<Flag> scorer_flags() {
    return {{"scorer", "LIST", "mean",
             fmt::format("how a query scores a block: {} (R sub-blocks of a block, the best of which counts)",
                         analysis::scorer_names())}};
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

PointGrid routing_grid(const Arguments& asked, const std::string& unknown) {
    const Arguments arguments = asked.without(unknown);
    std::optional<PointsFile> file;
    if (arguments.has("points") && arguments.given("points")) {
        file = read_points(arguments);
    }
    const AxisSources sources(arguments, file ? &*file : nullptr);
    check_unknown(sources, unknown);
    PointGrid grid;
    grid.by_budget = sources.said("budget");
    grid.skips = arguments.has("skip-impossible") && arguments.on("skip-impossible");
    Mistakes mistakes;
    for (Draft& draft : cross_product(file ? file->rows : std::vector<Draft>(1), sources.axes())) {
        draft.point.topk = unknown == "topk" ? 1 : draft.point.topk;
        if (unknown == "block-size") {
            if (draft.point.scorer.sub_blocks > 1) {
                throw InputError(
                    fmt::format("scorer = {} with --solve block-size: its sub-blocks divide the block, so that not "
                                "every size is one; "
                                "nearest valid: mean, or ask for each size with --block-size",
                                analysis::to_string(draft.point.scorer)));
            }
            draft.point.block_size = smallest_valid_block(draft.point);
        }
        const std::string text = mistake(draft);
        if (text.empty()) {
            grid.points.push_back(draft.point);
        } else {
            mistakes.add(draft.line > 0 ? fmt::format("{}, line {}: {}", file->path, draft.line, text) : text);
        }
    }
    if (mistakes.points() > 0 && (!grid.skips || grid.points.empty())) {
        const bool can_skip = !grid.points.empty() && arguments.has("skip-impossible");
        mistakes.refuse(grid.skips
                            ? fmt::format("skip-impossible: leaves no point, all {} are impossible:", mistakes.points())
                            : "",
                        can_skip ? fmt::format("--skip-impossible leaves out such points, here {} of {}",
                                               mistakes.points(), mistakes.points() + std::ssize(grid.points))
                                 : "");
    }
    grid.left_out = mistakes.points();
    grid.first_left_out = grid.left_out > 0 ? mistakes.first() : "";
    return grid;
}

std::vector<RoutingPoint> point_grid(const Arguments& arguments, const std::string& unknown) {
    return routing_grid(arguments, unknown).points;
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
    if (some([](const RoutingPoint& point) { return point.key_memory > 0; })) {
        columns.push_back(integers("key_memory", "longest time constant of correlated keys along a text, in tokens",
                                   std::mem_fn(&RoutingPoint::key_memory)));
    }
    const auto add_where_some = [&](std::string name, std::string long_name, double RoutingPoint::*field) {
        if (some([field](const RoutingPoint& point) { return point.*field != 0.0; })) {
            columns.push_back(reals(std::move(name), std::move(long_name), std::mem_fn(field)));
        }
    };
    add_where_some("key_mean", "length of the keys' mean over their rms length, before RoPE", &RoutingPoint::key_mean);
    add_where_some("query_mean", "cosine of the query, its needle apart, with the keys' mean",
                   &RoutingPoint::query_mean);
    add_where_some("effective_dim", "effective dimension of the keys less their mean; 0: all",
                   &RoutingPoint::effective_dim);
    add_where_some("sink", "what token 0 adds to every score q.k, in units of 1/sqrt(head_dim)", &RoutingPoint::sink);
    if (some([](const RoutingPoint& point) { return point.key_conv > 0; })) {
        columns.push_back(
            integers("key_conv", "width of the key convolution, 0: none", std::mem_fn(&RoutingPoint::key_conv)));
        columns.push_back(reals("key_conv_tap", "weight of the key convolution at every lag",
                                std::mem_fn(&RoutingPoint::key_conv_tap)));
        columns.push_back(
            texts("key_conv_activation", "activation of the key convolution",
                  [](const RoutingPoint& point) { return std::string(to_string(point.key_conv_activation)); }));
    }
    if (some([](const RoutingPoint& point) { return point.scorer != analysis::Scorer{}; })) {
        columns.push_back(texts("scorer", "how the query scores a block",
                                [](const RoutingPoint& point) { return analysis::to_string(point.scorer); }));
    }
    return columns;
}

std::vector<Column> theory_columns(const std::vector<RoutingPoint>& points, int threads, const PointsDone& done) {
    std::vector<double> hit(points.size(), std::nan(""));
    std::vector<double> miss(points.size(), std::nan(""));
    std::vector<double> log_miss(points.size(), std::nan(""));
    std::vector<double> approximate(points.size(), std::nan(""));
    std::mutex mutex;
    std::size_t count = 0;
    parallel_for(points.size(), thread_count(threads), [&](std::size_t i) {
        if (analysis::has_exact_probability(points[i])) {
            const analysis::HitProbability probability = analysis::exact_hit_probability(points[i]);
            hit[i] = probability.hit();
            miss[i] = probability.miss();
            log_miss[i] = probability.log_miss;
        }
        if (analysis::has_approximation(points[i])) {
            approximate[i] = analysis::approximate_hit_probability(points[i]).miss();
        }
        if (done) {
            const std::lock_guard lock(mutex);
            done(++count);
        }
    });
    std::vector<Column> columns = {
        column_of<double>(points, "snr", "delta_mu_eff sqrt(d / (2 B))", analysis::snr),
        column_of<double>(points, "pairwise_miss", "paper: one noise block outranks the signal block",
                          analysis::pairwise_miss),
        column_of<double>(points, "reliable_snr", "paper: snr above which routing is reliable",
                          analysis::reliable_snr_threshold),
        {"hit_probability", "exact probability that the signal block is routed", "1", std::move(hit)},
        {"miss_probability", "exact probability that the signal block is not routed", "1", std::move(miss)},
        {"log_miss_probability", "natural log of miss_probability", "1", std::move(log_miss)}};
    if (std::any_of(points.begin(), points.end(), analysis::has_approximation)) {
        columns.push_back({"approximate_miss_probability",
                           "miss probability where all block scores are taken for normal", "1", std::move(approximate),
                           "an approximation, within a few percent; not exact"});
    }
    return columns;
}

}  // namespace mobalab::experiments
