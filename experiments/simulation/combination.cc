#include "experiments/simulation/combination.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "analysis/binomial_interval.h"
#include "experiments/base/values.h"
#include "experiments/results/column_builder.h"
#include "experiments/simulation/miss_estimate.h"
#include "sim/samplers/method.h"

namespace mobalab::experiments {
namespace {

/// Columns that belong to a run; in all others equal points are equal.
const std::set<std::string>& run_columns() {
    static const std::set<std::string> all = {"trials", "misses", "miss",        "low",
                                              "high",   "seed",   "stop_reason", "method_reason"};
    return all;
}

/// Stop rules that look at counts.
struct CountRules {
    std::int64_t max_misses = 0;
    double target_relative_error = 0.0;
    friend bool operator==(const CountRules&, const CountRules&) = default;
};

/// The trials of one seed at one point.
struct Stream {
    std::int64_t point;  ///< row of the file
    std::int64_t seed;
    std::int64_t trials;
    std::int64_t misses;
    std::string git_commit;
};

std::string cell_text(const Column& column, std::size_t row) {
    return std::visit(
        [row](const auto& values) {
            const auto& value = values[row];
            if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>) {
                return std::isnan(value) ? std::string("nan") : shortest(value);
            } else {
                return fmt::format("{}", value);
            }
        },
        column.values);
}

/// A file with its table of points taken apart.
class Source {
public:
    explicit Source(const CombinationSource& file) : path_(file.path), table_(table_of(file)) {
        read_rules(file.results);
        read_streams(file.results);
        for (std::size_t row = 0; row < table_.rows(); ++row) {
            rows_.emplace(question(row), row);
        }
    }

    const std::string& path() const { return path_; }
    const Table& table() const { return table_; }
    const CountRules& rules() const { return rules_; }
    const std::vector<Stream>& streams() const { return streams_; }

    bool counted(std::size_t row) const { return method(row) != sim::Method::exact; }

    /// What is asked at a row, as names and values.
    std::string question(std::size_t row) const {
        std::string text;
        for (const Column& column : table_.columns) {
            if (column.name == "delta_mu_eff") {
                break;
            }
            text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", column.name, cell_text(column, row));
        }
        for (const char* name :
             {"needles", "goal", "key_correlation", "key_memory", "key_mean", "query_mean", "effective_dim", "sink",
              "key_conv", "key_conv_tap", "key_conv_activation", "scorer"}) {
            if (table_.has(name)) {
                text += fmt::format(", {} = {}", name, cell_text(table_.column(name), row));
            }
        }
        return text;
    }

    std::optional<std::size_t> row_of(const std::string& question) const {
        const auto found = rows_.find(question);
        return found == rows_.end() ? std::nullopt : std::optional(found->second);
    }

    /// Throws where something else than counts differs between a row here and one of the first file.
    void check_same(std::size_t row, const Source& first, std::size_t first_row) const {
        if (columns() != first.columns()) {
            refuse(fmt::format("its table has other columns than that of {}", first.path_));
        }
        for (const Column& column : table_.columns) {
            if (run_columns().contains(column.name)) {
                continue;
            }
            const std::string here = cell_text(column, row);
            const std::string there = cell_text(first.table_.column(column.name), first_row);
            if (here != there) {
                refuse(fmt::format("{} = {} where {} has {}, at {}; only runs that differ in their seed are added",
                                   column.name, here, first.path_, there, question(row)));
            }
        }
        if (!counted(row)) {
            for (const char* name : {"miss", "low", "high"}) {
                if (cell_text(table_.column(name), row) != cell_text(first.table_.column(name), first_row)) {
                    refuse(fmt::format("another exact {} than in {}, at {}", name, first.path_, question(row)));
                }
            }
        }
    }

    [[noreturn]] void refuse(const std::string& why) const { throw FileError(path_ + ": " + why); }

private:
    sim::Method method(std::size_t row) const { return sim::parse_method(table_.texts("method")[row]); }

    std::set<std::string> columns() const {
        std::set<std::string> names;
        for (const Column& column : table_.columns) {
            if (!run_columns().contains(column.name)) {
                names.insert(column.name);
            }
        }
        return names;
    }

    static const Table& table_of(const CombinationSource& file) {
        const bool simulated = file.results.subcommand == "simulate" || file.results.subcommand == "combine";
        if (!simulated) {
            throw FileError(
                fmt::format("{}: is of mobalab {}; only files of simulate hold counts that can be added (theory has "
                            "none, and probes "
                            "of route and validate share keys: run those again with more --probes)",
                            file.path, file.results.subcommand));
        }
        return file.results.table("simulate");
    }

    void read_rules(const Results& results) {
        if (results.subcommand == "combine") {
            rules_.max_misses = std::get<std::int64_t>(table_.attributes.at("max_misses"));
            rules_.target_relative_error = std::get<double>(table_.attributes.at("target_relative_error"));
            return;
        }
        std::size_t told = 0;
        std::istringstream settings(results.settings);
        for (std::string word; settings >> word;) {
            const std::string name = word.substr(0, word.find('='));
            const std::string value = word.substr(std::min(word.size(), name.size() + 1));
            if (name == "max-misses") {
                rules_.max_misses = parse_integer(name, value, {0, INT64_MAX});
                ++told;
            } else if (name == "target-relative-error") {
                rules_.target_relative_error = parse_real(name, value, {0.0, 1.0});
                ++told;
            }
        }
        if (told != 2) {
            refuse("its settings do not tell the stop rules it was made with");
        }
    }

    void read_streams(const Results& results) {
        for (std::size_t row = 0; row < table_.rows(); ++row) {
            if (method(row) == sim::Method::conditional) {
                refuse(
                    fmt::format("holds a mean of weights (method conditional) at {}, and not the sums it takes to add "
                                "it to another; ask one run for more (a smaller --target-relative-error)",
                                question(row)));
            }
        }
        const std::vector<std::int64_t>& trials = table_.integers("trials");
        const std::vector<std::int64_t>& misses = table_.integers("misses");
        if (results.subcommand == "simulate") {
            for (std::size_t row = 0; row < table_.rows(); ++row) {
                if (counted(row)) {
                    streams_.push_back({static_cast<std::int64_t>(row), static_cast<std::int64_t>(results.seed.value()),
                                        trials[row], misses[row], results.git_commit});
                }
            }
            return;
        }
        const Table& table = results.table("streams");
        std::vector<std::int64_t> sums(2 * table_.rows());
        for (std::size_t i = 0; i < table.rows(); ++i) {
            streams_.push_back({table.integers("point")[i], table.integers("seed")[i], table.integers("trials")[i],
                                table.integers("misses")[i], table.texts("git_commit")[i]});
            sums.at(2 * static_cast<std::size_t>(streams_.back().point)) += streams_.back().trials;
            sums.at(2 * static_cast<std::size_t>(streams_.back().point) + 1) += streams_.back().misses;
        }
        for (std::size_t row = 0; row < table_.rows(); ++row) {
            if (counted(row) && (sums[2 * row] != trials[row] || sums[2 * row + 1] != misses[row])) {
                refuse(fmt::format("its streams do not add up to its counts at {}", question(row)));
            }
        }
    }

    std::string path_;
    Table table_;
    CountRules rules_;
    std::vector<Stream> streams_;
    std::map<std::string, std::size_t> rows_;
};

/// A row of the combination.
struct Sum {
    std::int64_t trials = 0;
    std::int64_t misses = 0;
    std::set<std::string> stop_reasons = {};
    analysis::Interval interval = {};
};

class Combination {
public:
    explicit Combination(const std::vector<CombinationSource>& files) {
        sources_.reserve(files.size());
        for (const CombinationSource& file : files) {
            sources_.emplace_back(file);
        }
        sums_.resize(first().table().rows());
        std::for_each(sources_.begin(), sources_.end(), [this](const Source& source) { add(source); });
    }

    Table streams_table() const {
        Table table{.name = "streams", .dimension = "stream", .columns = {}};
        table.columns = {
            make_column(streams_, "point", "row of the table simulate", [](const Stream& row) { return row.point; }),
            make_column(streams_, "seed", "seed of the trials", [](const Stream& row) { return row.seed; }),
            make_column(streams_, "trials", "trials of this seed, from its first on",
                        [](const Stream& row) { return row.trials; }),
            make_column(streams_, "misses", "of them those whose signal block was not routed",
                        [](const Stream& row) { return row.misses; }),
            make_column(streams_, "git_commit", "commit of the program that drew them",
                        [](const Stream& row) { return row.git_commit; })};
        return table;
    }

    Table points_table(std::optional<double> asked) const {
        Table table = first().table();
        const double confidence = asked.value_or(std::get<double>(table.attributes.at("confidence")));
        std::erase_if(table.columns, [](const Column& column) { return column.name == "seed"; });
        const std::vector<Sum> sums = with_intervals(confidence);
        for (Column& column : table.columns) {
            fill(column, sums, confidence);
        }
        table.attributes["interval"] = interval_definition(confidence);
        table.attributes["confidence"] = confidence;
        table.attributes["max_misses"] = first().rules().max_misses;
        table.attributes["target_relative_error"] = first().rules().target_relative_error;
        return table;
    }

private:
    const Source& first() const { return sources_.front(); }

    void add(const Source& source) {
        if (source.rules() != first().rules()) {
            source.refuse(fmt::format(
                "was stopped by other rules on counts (max-misses {}, target-relative-error {}) than {} ({}, {})",
                source.rules().max_misses, shortest(source.rules().target_relative_error), first().path(),
                first().rules().max_misses, shortest(first().rules().target_relative_error)));
        }
        if (source.table().rows() != sums_.size()) {
            source.refuse(fmt::format("holds {} points where {} holds {}; only runs of the same points are added",
                                      source.table().rows(), first().path(), sums_.size()));
        }
        std::vector<std::size_t> places;  // in the first file, of every row
        for (std::size_t row = 0; row < sums_.size(); ++row) {
            const std::optional<std::size_t> place = first().row_of(source.question(row));
            if (!place) {
                source.refuse(fmt::format("the point {} is not in {}; only runs of the same points are added",
                                          source.question(row), first().path()));
            }
            source.check_same(row, first(), *place);
            sums_[*place].stop_reasons.insert(source.table().texts("stop_reason")[row]);
            places.push_back(*place);
        }
        for (const Stream& stream : source.streams()) {
            add(source, stream, places.at(static_cast<std::size_t>(stream.point)));
        }
    }

    void add(const Source& source, Stream stream, std::size_t place) {
        const auto [earlier, fresh] = owners_.try_emplace({place, stream.seed}, source.path());
        if (!fresh) {
            source.refuse(
                fmt::format("the trials of seed {} are in {} already, and none is counted twice; give runs of "
                            "another --seed",
                            stream.seed, earlier->second));
        }
        sums_[place].trials += stream.trials;
        sums_[place].misses += stream.misses;
        stream.point = static_cast<std::int64_t>(place);
        streams_.push_back(std::move(stream));
    }

    std::vector<Sum> with_intervals(double confidence) const {
        std::vector<Sum> sums = sums_;
        for (std::size_t row = 0; row < sums.size(); ++row) {
            sums[row].interval = first().counted(row) ? analysis::clopper_pearson(static_cast<double>(sums[row].misses),
                                                                                  static_cast<double>(sums[row].trials),
                                                                                  1.0 - confidence)
                                                      : exact_interval(row);
        }
        return sums;
    }

    analysis::Interval exact_interval(std::size_t row) const {
        const Table& table = first().table();
        return {.low = table.reals("low")[row], .value = table.reals("miss")[row], .high = table.reals("high")[row]};
    }

    void fill(Column& column, const std::vector<Sum>& sums, double confidence) const {
        for (std::size_t row = 0; row < sums.size(); ++row) {
            const Sum& sum = sums[row];
            if (column.name == "stop_reason" || (column.name == "method_reason" && first().counted(row))) {
                auto& texts = std::get<std::vector<std::string>>(column.values);
                texts[row] = column.name == "method_reason" ? "that of the files added"
                                                            : fmt::format("{}", fmt::join(sum.stop_reasons, ", "));
            } else if ((column.name == "trials" || column.name == "misses") && first().counted(row)) {
                std::get<std::vector<std::int64_t>>(column.values)[row] =
                    column.name == "trials" ? sum.trials : sum.misses;
            } else if (column.name == "miss" || column.name == "low" || column.name == "high") {
                std::get<std::vector<double>>(column.values)[row] = column.name == "miss"  ? sum.interval.value
                                                                    : column.name == "low" ? sum.interval.low
                                                                                           : sum.interval.high;
            }
        }
        if (column.name == "low" || column.name == "high") {
            column.definition = interval_definition(confidence);
        }
    }

    std::vector<Source> sources_;
    std::vector<Sum> sums_;
    std::vector<Stream> streams_;
    std::map<std::pair<std::size_t, std::int64_t>, std::string> owners_;
};

}  // namespace

std::vector<Table> combined_tables(const std::vector<CombinationSource>& sources, std::optional<double> confidence) {
    try {
        const Combination combination(sources);
        return {combination.points_table(confidence), combination.streams_table()};
    } catch (const std::out_of_range& error) {  // sealed by this program, and yet a column or table is not there
        throw FileError(fmt::format("{}: is no whole file of simulate: {}", sources.front().path, error.what()));
    }
}

}  // namespace mobalab::experiments
