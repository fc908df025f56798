#include "experiments/advise/measured_evidence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "analysis/routing_point.h"

namespace mobalab::experiments {
namespace {

using analysis::InputError;
using Integers = std::vector<std::int64_t>;
using Reals = std::vector<double>;
using Texts = std::vector<std::string>;

/// Columns of the table by type and name, with errors a user can read.
class MeasureColumns {
public:
    MeasureColumns(const Table& table, std::string path) : table_(table), path_(std::move(path)) {
        if (table.rows() == 0) {
            throw FileError(path_ + ": its table measure has no rows");
        }
    }

    const Integers& integers(const char* name) const { return of<Integers>(name, "integers"); }
    const Reals& reals(const char* name) const { return of<Reals>(name, "real numbers"); }
    const Texts& texts(const char* name) const { return of<Texts>(name, "text"); }

    [[noreturn]] void fail(std::size_t row, const std::string& what) const {
        throw FileError(fmt::format("{}: row {} of its table measure: {}", path_, row, what));
    }

    std::int64_t positive(const char* name, std::size_t row) const {
        const std::int64_t value = integers(name)[row];
        if (value < 1) {
            fail(row, fmt::format("{} = {}: must be at least 1", name, value));
        }
        return value;
    }

    /// A share of [0, 1]; NaN where `may_miss`.
    double share(const std::string& name, std::size_t row, bool may_miss) const {
        const double value = reals(name.c_str())[row];
        if (!(value >= 0.0 && value <= 1.0) && !(may_miss && std::isnan(value))) {
            fail(row, fmt::format("{} = {}: must be a number from 0 to 1", name, value));
        }
        return value;
    }

    Estimate estimate(const std::string& name, std::size_t row) const {
        constexpr double rounding = 1e-6;  // of means in single precision
        const Estimate all{share(name, row, false), share(name + "_low", row, false),
                           share(name + "_high", row, false)};
        if (!(all.low <= all.value + rounding && all.value <= all.high + rounding)) {
            fail(row, fmt::format("{} = {} with interval {} to {}: must lie in its interval", name, all.value, all.low,
                                  all.high));
        }
        return all;
    }

private:
    template <typename Values>
    const Values& of(const char* name, const char* type) const {
        if (!table_.has(name)) {
            throw FileError(fmt::format("{}: its table measure has no column {}; write it with mobalab measure --out",
                                        path_, name));
        }
        const auto* values = std::get_if<Values>(&table_.column(name).values);
        if (values == nullptr) {
            throw FileError(fmt::format("{}: column {} of its table measure holds no {}", path_, name, type));
        }
        return *values;
    }

    const Table& table_;
    std::string path_;
};

template <typename Value>
bool is_wanted(const std::vector<Value>& wanted, const Value& value) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), value) != wanted.end();
}

Setting setting_of(const MeasureColumns& columns, std::size_t row) {
    return {.scorer = columns.texts("scorer")[row],
            .block_size = columns.positive("block_size", row),
            .topk = columns.positive("topk", row),
            .sub_blocks = columns.positive("sub_blocks", row),
            .keep_first = columns.integers("keep_first")[row] != 0};
}

bool is_wanted(const MeasuredRows& wanted, const std::string& trace, const Setting& setting) {
    return is_wanted(wanted.traces, trace) && is_wanted(wanted.scorers, setting.scorer) &&
           is_wanted(wanted.block_sizes, setting.block_size) && is_wanted(wanted.topks, setting.topk) &&
           is_wanted(wanted.keep_first, setting.keep_first);
}

HeadLoss loss_of(const MeasureColumns& columns, std::size_t row) {
    return {.recall = columns.estimate("mass_recall", row),
            .lost_mass = columns.estimate("lost_mass", row),
            .needle_hit = columns.share("needle_hit", row, true),
            .distance_r2 = columns.share("distance_r2", row, true)};
}

/// Mean of what is not NaN.
double known_mean(const std::vector<double>& values) {
    double sum = 0.0;
    double count = 0.0;
    for (const double value : values) {
        if (!std::isnan(value)) {
            sum += value;
            count += 1.0;
        }
    }
    return sum / count;
}

template <typename Item, typename Get>
auto each(const std::vector<Item>& items, Get get) {
    std::vector<std::decay_t<decltype(get(items.front()))>> values;
    for (const Item& item : items) {
        values.push_back(get(item));
    }
    return values;
}

HeadLoss mean_loss(const std::vector<HeadLoss>& losses) {
    return {.recall = mean_estimate(each(losses, [](const HeadLoss& loss) { return loss.recall; })),
            .lost_mass = mean_estimate(each(losses, [](const HeadLoss& loss) { return loss.lost_mass; })),
            .needle_hit = known_mean(each(losses, [](const HeadLoss& loss) { return loss.needle_hit; })),
            .distance_r2 = known_mean(each(losses, [](const HeadLoss& loss) { return loss.distance_r2; }))};
}

/// A head as one trace has it.
using Place = std::pair<HeadName, std::string>;

struct Measured {
    std::set<Place> places;
    std::map<Setting, std::map<Place, HeadLoss>> settings;
    std::set<std::string> traces;
    std::set<std::pair<std::string, std::string>> kinds;  ///< column, value: what must be the same everywhere
    std::int64_t seq_len = 0;
    std::int64_t head_dim = 0;
};

void note_kind(Measured& measured, const MeasureColumns& columns, std::size_t row) {
    measured.seq_len = columns.positive("seq_len", row);
    measured.head_dim = columns.positive("head_dim", row);
    measured.kinds.insert({"seq_len", std::to_string(measured.seq_len)});
    measured.kinds.insert({"head_dim", std::to_string(measured.head_dim)});
    for (const char* name : {"model", "rope", "dtype"}) {
        measured.kinds.insert({name, columns.texts(name)[row]});
    }
}

Measured collect(const MeasureColumns& columns, const MeasuredRows& wanted) {
    Measured measured;
    const std::size_t rows = columns.texts("trace").size();
    for (std::size_t row = 0; row < rows; ++row) {
        const std::string& trace = columns.texts("trace")[row];
        const Setting setting = setting_of(columns, row);
        if (!is_wanted(wanted, trace, setting)) {
            continue;
        }
        note_kind(measured, columns, row);
        const Place place{{columns.integers("layer")[row], columns.integers("head")[row]}, trace};
        measured.places.insert(place);
        measured.traces.insert(trace);
        if (!measured.settings[setting].emplace(place, loss_of(columns, row)).second) {
            columns.fail(row, fmt::format("{} is there twice for layer {}, head {} of {}", to_string(setting),
                                          place.first.layer, place.first.head, trace));
        }
    }
    return measured;
}

void require_one_kind(const Measured& measured, const std::string& path) {
    std::map<std::string, std::vector<std::string>> values;
    for (const auto& [name, value] : measured.kinds) {
        values[name].push_back(value);
    }
    for (const auto& [name, all] : values) {
        if (all.size() > 1) {
            throw InputError(
                fmt::format("{}: holds measurements of {} {}, of which no mean can be taken; choose with --trace, one "
                            "or more of {}",
                            path, name, fmt::join(all, " and "), fmt::join(measured.traces, ", ")));
        }
    }
}

using MeasuredItem = std::pair<const Setting, std::map<Place, HeadLoss>>;

bool has_choice(const Measured& measured, const MeasuredItem& item) {
    return leaves_a_choice(item.first, measured.seq_len);
}
bool is_whole(const Measured& measured, const MeasuredItem& item) {
    return item.second.size() == measured.places.size();
}

Candidate candidate_of(const Setting& setting, const std::map<Place, HeadLoss>& losses) {
    std::map<HeadName, std::vector<HeadLoss>> by_head;
    for (const auto& [place, loss] : losses) {
        by_head[place.first].push_back(loss);
    }
    Candidate candidate{.setting = setting, .source = "measured"};
    for (const auto& [name, of_head] : by_head) {
        candidate.heads.push_back(mean_loss(of_head));
    }
    candidate.recall = mean_estimate(each(candidate.heads, [](const HeadLoss& loss) { return loss.recall; }));
    const std::vector<double> recalls = each(candidate.heads, [](const HeadLoss& loss) { return loss.recall.value; });
    candidate.worst_head = *std::min_element(recalls.begin(), recalls.end());
    candidate.needle_hit = known_mean(each(candidate.heads, [](const HeadLoss& loss) { return loss.needle_hit; }));
    return candidate;
}

void add_notes(Evidence& evidence, const Measured& measured) {
    const auto note = [&](auto holds, const std::string& what) {
        const auto count = std::count_if(measured.settings.begin(), measured.settings.end(), holds);
        if (count > 0) {
            evidence.notes.push_back(
                fmt::format("left out {} of {} settings, {}", count, measured.settings.size(), what));
        }
    };
    note([&](const auto& item) { return !has_choice(measured, item); },
         "which keep every block or none but the own: nothing to choose");
    note([&](const auto& item) { return has_choice(measured, item) && !is_whole(measured, item); },
         "which were not measured on every head of every trace");
    if (measured.places.size() > evidence.heads.size()) {
        evidence.notes.push_back(
            "a head that was measured on several traces counts once, with the mean of its numbers");
    }
}

}  // namespace

Evidence measured_evidence(const Table& table, const MeasuredRows& wanted, const std::string& path) {
    const MeasureColumns columns(table, path);
    const Measured measured = collect(columns, wanted);
    if (measured.settings.empty()) {
        const Texts& traces = columns.texts("trace");
        throw InputError(
            fmt::format("{}: no row of its table measure is of the trace, scorer, block-size, topk and "
                        "keep-first asked for; it holds traces {}",
                        path, fmt::join(std::set<std::string>(traces.begin(), traces.end()), ", ")));
    }
    require_one_kind(measured, path);
    Evidence evidence{.seq_len = measured.seq_len,
                      .head_dim = measured.head_dim,
                      .measured = true,
                      .origin = fmt::format("measured on {}", fmt::join(measured.traces, ", "))};
    for (const Place& place : measured.places) {
        if (evidence.heads.empty() || evidence.heads.back() != place.first) {
            evidence.heads.push_back(place.first);
        }
    }
    for (const auto& item : measured.settings) {
        if (is_whole(measured, item) && has_choice(measured, item)) {
            evidence.candidates.push_back(candidate_of(item.first, item.second));
        }
    }
    if (evidence.candidates.empty()) {
        throw InputError(path +
                         ": no setting that routes some blocks and leaves some out was measured on every head of every "
                         "trace; choose with "
                         "--trace, or measure smaller k");
    }
    add_notes(evidence, measured);
    return evidence;
}

}  // namespace mobalab::experiments
