#include "experiments/advise/kernel_times.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "analysis/routing_point.h"
#include "experiments/advise/shipped_kernel_times.h"
#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/results/csv_text.h"

namespace mobalab::experiments {

using analysis::InputError;

/// Reads the text into a KernelTimes.
class KernelTimesReader {
public:
    KernelTimesReader(std::string_view text, const std::string& name) {
        times_.name_ = name;
        csv_ = read_csv_text(without_notes(text), name, most_rows);
        for (const char* column : columns) {
            const auto found = std::find(csv_.header.begin(), csv_.header.end(), column);
            if (found == csv_.header.end()) {
                throw FileError(
                    fmt::format("{}: has no column {}; the columns are {}", name, column, fmt::join(columns, ", ")));
            }
            places_[column] = static_cast<std::size_t>(found - csv_.header.begin());
        }
        for (const auto& [what, said] : {std::pair{"device", &times_.device_}, std::pair{"commit", &times_.commit_},
                                         std::pair{"command", &times_.command_}}) {
            if (said->empty()) {
                throw FileError(fmt::format("{}: does not say its {}; above the columns a line like \"# {}: ...\" does",
                                            name, what, what));
            }
        }
        if (csv_.rows.empty()) {
            throw FileError(name + ": holds no times");
        }
    }

    KernelTimes read() {
        for (const CsvRows::Row& row : csv_.rows) {
            try {
                add(row);
            } catch (const InputError& error) {
                throw FileError(fmt::format("{}, line {}: {}", times_.name_, row.line, error.what()));
            }
        }
        times_.rows_ = csv_.rows.size();
        return std::move(times_);
    }

private:
    static constexpr std::size_t most_rows = 100'000;
    static constexpr double most_ms = 1e9;
    static constexpr std::array<const char*, 10> columns = {"head_dim",   "batch",     "heads",  "seq_len",
                                                            "block_size", "topk",      "scorer", "keep_first",
                                                            "route_ms",   "forward_ms"};

    /// The text with its lines "# key: value" emptied, so that the others keep their numbers.
    std::string without_notes(std::string_view text) {
        std::string rest;
        while (!text.empty()) {
            const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
            const std::string_view line = text.substr(0, end);
            text.remove_prefix(end);
            if (line.starts_with("# ")) {
                note(line.substr(2, line.find_last_not_of("\r\n") - 1));
                rest += '\n';
            } else {
                rest += line;
            }
        }
        return rest;
    }

    void note(std::string_view line) {
        for (const auto& [key, value] : {std::pair{"device: ", &times_.device_}, std::pair{"commit: ", &times_.commit_},
                                         std::pair{"command: ", &times_.command_}}) {
            if (line.starts_with(key)) {
                *value = line.substr(std::string_view(key).size());
            }
        }
    }

    const std::string& cell(const CsvRows::Row& row, const char* column) const { return row.cells[places_.at(column)]; }
    std::int64_t integer(const CsvRows::Row& row, const char* column, std::int64_t least, std::int64_t most) const {
        return parse_integer(column, cell(row, column), {least, most});
    }
    double time(const CsvRows::Row& row, const char* column) const {
        return parse_real(column, cell(row, column), {0.0, most_ms});
    }

    void add(const CsvRows::Row& row) {
        const std::int64_t head_dim = integer(row, "head_dim", 1, no_limit);
        const KernelTimes::Shape shape{integer(row, "batch", 1, no_limit), integer(row, "heads", 1, no_limit)};
        if (times_.shapes_.emplace(head_dim, shape).first->second != shape) {
            throw InputError(fmt::format("batch = {}, heads = {}: rows of head_dim {} have {}; one shape a width",
                                         shape.batch, shape.heads, head_dim, times_.shape(head_dim)));
        }
        const std::string& scorer = cell(row, "scorer");
        analysis::parse_scorer(scorer);
        const bool keep_first = integer(row, "keep_first", 0, 1) == 1;
        const KernelTimes::Key key{head_dim, scorer, keep_first, integer(row, "block_size", 1, no_limit),
                                   integer(row, "topk", 1, no_limit)};
        const double forward = time(row, "forward_ms");
        const double route = time(row, "route_ms");
        if (!(forward > 0.0 && forward >= route)) {
            throw InputError(fmt::format("forward_ms = {}, route_ms = {}: forward includes routing and takes time",
                                         cell(row, "forward_ms"), cell(row, "route_ms")));
        }
        if (!times_.by_length_[key].emplace(integer(row, "seq_len", 1, no_limit), forward).second) {
            throw InputError("the same setting, head_dim and seq_len as an earlier line");
        }
    }

    KernelTimes times_;
    CsvRows csv_;
    std::map<std::string, std::size_t> places_;
};

KernelTimes KernelTimes::parse(std::string_view text, const std::string& name) {
    return KernelTimesReader(text, name).read();
}

KernelTimes KernelTimes::read(const std::string& path) {
    constexpr std::int64_t most_bytes = std::int64_t{64} << 20U;
    const std::vector<char> bytes = read_file(path, most_bytes);
    return parse({bytes.data(), bytes.size()}, path);
}

const KernelTimes& KernelTimes::shipped() {
    static const KernelTimes times = parse(shipped_kernel_times(), "the program's kernel table");
    return times;
}

std::optional<double> KernelTimes::milliseconds(const Setting& setting, std::int64_t head_dim,
                                                std::int64_t seq_len) const {
    const auto found =
        by_length_.find({head_dim, setting.scorer, setting.keep_first, setting.block_size, setting.topk});
    if (found == by_length_.end()) {
        return {};
    }
    const auto above = found->second.lower_bound(seq_len);
    if (above == found->second.end() || (above == found->second.begin() && above->first != seq_len)) {
        return {};
    }
    if (above->first == seq_len) {
        return above->second;
    }
    const auto below = std::prev(above);
    const auto n = static_cast<double>(seq_len);
    const auto low = static_cast<double>(below->first);
    const auto high = static_cast<double>(above->first);
    const double share = (n - low) / (high - low);
    return n * ((1.0 - share) * below->second / low + share * above->second / high);
}

std::string KernelTimes::shape(std::int64_t head_dim) const {
    const auto found = shapes_.find(head_dim);
    return found == shapes_.end() ? ""
                                  : fmt::format("{} sequences of {} heads", found->second.batch, found->second.heads);
}

std::string KernelTimes::range() const {
    std::set<std::int64_t> widths;
    std::set<std::int64_t> lengths;
    for (const auto& [key, times] : by_length_) {
        widths.insert(std::get<0>(key));
        lengths.insert(times.begin()->first);
        lengths.insert(times.rbegin()->first);
    }
    return fmt::format("d {}; N {} to {}", fmt::join(widths, ", "), *lengths.begin(), *lengths.rbegin());
}

void add_milliseconds(Evidence& evidence, const KernelTimes& times, std::int64_t seq_len) {
    std::int64_t advisable = 0;
    std::int64_t timed = 0;
    for (Candidate& candidate : evidence.candidates) {
        if (can_be_advised(candidate.setting.scorer)) {
            const auto found = times.milliseconds(candidate.setting, evidence.head_dim, seq_len);
            candidate.milliseconds = found.value_or(unknown);
            ++advisable;
            timed += found ? 1 : 0;
        }
    }
    if (timed > 0) {
        evidence.notes.push_back(fmt::format(
            "milliseconds: forward pass of {}, d {}, N {}, bf16, on {} (commit {}); {}", times.shape(evidence.head_dim),
            evidence.head_dim, seq_len, times.device(), times.commit(),
            timed < advisable ? fmt::format("{} of {} settings are not in that table", advisable - timed, advisable)
                              : "every setting is in that table"));
    }
}

}  // namespace mobalab::experiments
