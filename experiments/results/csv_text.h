#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {

// CSV as RFC 4180 has it, read and written with libcsv.

/// The cells of a CSV file, below its first line.
struct CsvRows {
    struct Row {
        std::int64_t line;  ///< of the file, the first is 1
        std::vector<std::string> cells;
    };
    std::vector<std::string> header;
    std::vector<Row> rows;  ///< each as long as the header
};

/// Reads a regular file of at most 64 MiB: a header, then at most `most_rows` rows of as many cells. A byte order mark,
/// CRLF, quotes, blanks around cells and empty lines are taken. Throws FileError naming file, line and rule.
CsvRows read_csv(const std::string& path, std::size_t most_rows);

/// The same of a text; `name` is what errors call it.
CsvRows read_csv_text(std::string_view text, const std::string& name, std::size_t most_rows);

/// The table with its columns' names as header and "\n" behind every line. Numbers are the shortest decimals that read
/// back as the same double (at most 17 digits); what a row does not have (NaN, Column::missing) is empty.
std::string csv_table(const Table& table);

}  // namespace mobalab::experiments
