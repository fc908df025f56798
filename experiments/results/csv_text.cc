#include "experiments/results/csv_text.h"

#include <csv.h>
#include <fmt/format.h>

#include <cmath>
#include <string_view>
#include <utility>

#include "experiments/base/values.h"
#include "experiments/results/atomic_file.h"

namespace mobalab::experiments {
namespace {

constexpr std::int64_t most_bytes = std::int64_t{64} << 20U;

std::string_view checked_text(std::string_view text, const std::string& path) {
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    if (text.starts_with(byte_order_mark)) {
        text.remove_prefix(byte_order_mark.size());
    }
    if (text.find('\0') != std::string_view::npos) {
        throw FileError(path + ": is no CSV text (it holds zero bytes); save it as UTF-8 CSV");
    }
    return text;
}

/// Takes the next line off `rest`, its end included: LF, CRLF or CR.
std::string_view take_line(std::string_view& rest) {
    std::size_t end = rest.find_first_of("\r\n");
    if (end == std::string_view::npos) {
        end = rest.size();
    } else {
        end += rest.substr(end).starts_with("\r\n") ? 2 : 1;
    }
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end);
    return line;
}

/// libcsv's parser, which is given one line of the file after the other so that rows know theirs.
class Parser {
public:
    Parser(const std::string& path, std::size_t most_rows) : path_(path), most_rows_(most_rows) {
        if (csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI) != 0) {
            throw FileError(path_ + ": the CSV parser cannot be started");
        }
    }
    ~Parser() { csv_free(&parser_); }
    Parser(const Parser&) = delete;
    Parser& operator=(const Parser&) = delete;

    CsvRows parse(std::string_view text) {
        while (!text.empty()) {
            const std::string_view line = take_line(text);
            ++line_;
            if (!within_row_ && line.find_first_not_of(" \t\r\n") == std::string_view::npos) {
                continue;
            }
            first_line_ = within_row_ ? first_line_ : line_;
            within_row_ = true;
            check(csv_parse(&parser_, line.data(), line.size(), take_cell, take_row, this) == line.size());
        }
        check(csv_fini(&parser_, take_cell, take_row, this) == 0);
        if (!trouble_.empty()) {
            throw FileError(trouble_);
        }
        if (rows_.header.empty()) {
            throw FileError(path_ + ": is empty; its first line names the columns, like head_dim,block_size");
        }
        return std::move(rows_);
    }

private:
    void check(bool parsed) const {
        if (!trouble_.empty()) {
            throw FileError(trouble_);
        }
        if (!parsed) {
            throw FileError(fmt::format(
                "{}, line {}: a quote stands alone; a cell with quotes is \"...\", and a quote in it is written twice",
                path_, first_line_));
        }
    }

    static void take_cell(void* text, std::size_t size, void* self) {
        static_cast<Parser*>(self)->cells_.emplace_back(static_cast<const char*>(text), size);
    }

    // Called by C, so nothing is thrown from here.
    static void take_row(int, void* self) { static_cast<Parser*>(self)->add_row(); }

    void add_row() {
        within_row_ = false;
        std::vector<std::string> cells = std::exchange(cells_, {});
        if (rows_.header.empty()) {
            rows_.header = std::move(cells);
        } else if (cells.size() != rows_.header.size()) {
            note(fmt::format("{}, line {}: has {} cells where the header has {}", path_, first_line_, cells.size(),
                             rows_.header.size()));
        } else if (rows_.rows.size() == most_rows_) {
            note(fmt::format("{}, line {}: is row {}; a file of points has at most {}", path_, first_line_,
                             most_rows_ + 1, most_rows_));
        } else {
            rows_.rows.push_back({first_line_, std::move(cells)});
        }
    }

    void note(const std::string& trouble) {
        if (trouble_.empty()) {
            trouble_ = trouble;
        }
    }

    std::string path_;
    std::size_t most_rows_;
    csv_parser parser_ = {};
    CsvRows rows_;
    std::vector<std::string> cells_;
    std::int64_t line_ = 0;
    std::int64_t first_line_ = 0;  ///< of the row at work
    bool within_row_ = false;
    std::string trouble_;
};

std::string quoted_where_needed(const std::string& text) {
    const bool blank_at_an_end = !text.empty() && (text.front() == ' ' || text.back() == ' ');
    if (text.find_first_of(",\"\r\n\t") == std::string::npos && !blank_at_an_end) {
        return text;
    }
    std::string quoted(2 * text.size() + 2, '\0');
    quoted.resize(csv_write(quoted.data(), quoted.size(), text.data(), text.size()));
    return quoted;
}

std::string cell(const Column& column, std::size_t row) {
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&column.values)) {
        return (*integers)[row] == column.missing ? "" : std::to_string((*integers)[row]);
    }
    if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) {
        return std::isnan((*reals)[row]) ? "" : shortest((*reals)[row]);
    }
    return quoted_where_needed(std::get<std::vector<std::string>>(column.values)[row]);
}

}  // namespace

CsvRows read_csv(const std::string& path, std::size_t most_rows) {
    const std::vector<char> bytes = read_file(path, most_bytes);
    return read_csv_text({bytes.data(), bytes.size()}, path, most_rows);
}

CsvRows read_csv_text(std::string_view text, const std::string& name, std::size_t most_rows) {
    return Parser(name, most_rows).parse(checked_text(text, name));
}

std::string csv_table(const Table& table) {
    std::vector<std::string> cells;
    for (const Column& column : table.columns) {
        cells.push_back(quoted_where_needed(column.name));
    }
    std::string text = fmt::format("{}\n", fmt::join(cells, ","));
    for (std::size_t row = 0; row < table.rows(); ++row) {
        for (std::size_t i = 0; i < cells.size(); ++i) {
            cells[i] = cell(table.columns[i], row);
        }
        text += fmt::format("{}\n", fmt::join(cells, ","));
    }
    return text;
}

}  // namespace mobalab::experiments
