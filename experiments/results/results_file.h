#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "experiments/base/regular_file.h"

namespace mobalab::experiments {

class FileLock;
class StopAdvice;

/// One column of a table; every column of a table has the same length.
struct Column {
    std::string name;       ///< the vocabulary's name
    std::string long_name;  ///< what it is, for axis labels
    std::string units;      ///< UDUNITS text; "1": dimensionless; empty: no unit (text)
    std::variant<std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>> values;
    std::string definition = {};  ///< how it was computed, where the name leaves that open (intervals)
    /// Value of integers that stands for "this row has none"; netCDF's _FillValue, which xarray turns into NaN.
    std::optional<std::int64_t> missing = {};

    std::size_t size() const;
    friend bool operator==(const Column&, const Column&) = default;
};

using Attribute = std::variant<std::int64_t, double, std::string>;

/// One group of the file: named columns along one dimension.
struct Table {
    std::string name;
    std::string dimension = "point";  ///< the dimension scale; its values are the row numbers
    std::vector<Column> columns;
    std::map<std::string, Attribute> attributes = {};

    std::size_t rows() const;

    bool has(const std::string& column_name) const;

    /// Throws std::out_of_range when there is no such column, std::bad_variant_access when it has another type.
    const Column& column(const std::string& column_name) const;
    const std::vector<std::int64_t>& integers(const std::string& column_name) const;
    const std::vector<double>& reals(const std::string& column_name) const;
    const std::vector<std::string>& texts(const std::string& column_name) const;

    friend bool operator==(const Table&, const Table&) = default;
};

/// Version of the layout of files written. Files of version 1, whose tables simulate and route had longer names for
/// some columns (column_names.h), are read as well; others are refused.
inline constexpr std::int64_t results_schema_version = 2;

/// One results file. HDF5 that xarray opens as it is:
/// `xarray.open_dataset(path, engine="h5netcdf", group="<table>")`.
///
/// Layout: a group per table; in it a dimension scale and one 1-D dataset per column (int64, float64 or UTF-8 strings)
/// with attributes `units`, `long_name` and, where there is one, `definition` and `_FillValue`. Root attributes: schema
/// ("mobalab results"), schema_version, subcommand, task, command, settings, seed (absent when there is none), version,
/// git_commit, build, device, utc_time. Behind the HDF5 file's end stands a seal (seal.h); HDF5 readers do not see it.
struct Results {
    std::string subcommand;  ///< "simulate", ...
    std::string task;        ///< what was computed (task_id()); equal tasks give equal tables
    std::string command;     ///< full command line
    std::string settings;    ///< every flag with its value
    std::optional<std::uint64_t> seed;
    std::string version;
    std::string git_commit;
    std::string build;
    std::string device;
    std::string utc_time;  ///< start of the run, ISO 8601
    std::vector<Table> tables;

    const Table& table(const std::string& name) const;  ///< throws std::out_of_range

    friend bool operator==(const Results&, const Results&) = default;
};

/// Results with version, git_commit, build and utc_time of this program filled in. utc_time is the present, or
/// SOURCE_DATE_EPOCH (seconds since 1970) when that is set.
Results new_results(const std::string& subcommand);

/// Identity of a computation: UUID version 5 of its canonical text.
std::string task_id(const std::string& canonical_text);

/// The bytes of the HDF5 file; a function of `results` alone. Throws std::invalid_argument when columns of a table
/// differ in length or a name is used twice.
std::vector<char> encode_results(const Results& results);

/// Inverse of encode_results; columns of version 1 get their present names. `path` is for messages. Throws FileError
/// for anything that is not a results file of this schema version or 1: foreign, truncated, damaged, changed by another
/// program.
Results decode_results(std::vector<char> bytes, const std::string& path);

/// Whether a file is an HDF5 file with a seal of this program behind it, whatever it holds. Throws FileError where it
/// cannot be read.
bool is_results_file(const std::string& path);

/// Reads a results file. Throws FileError.
Results read_results(const std::string& path);

/// Where an interrupted run keeps what it has done (resumable_output.h).
std::string journal_path(const std::string& results_path);

/// The right to write one results file, from before the computation to its end.
///
/// Opening checks that the path can be written, takes a lock (a second process is refused) and refuses an existing file
/// or the journal of an interrupted run unless `force`. commit() writes a new file beside the path, syncs it and its
/// folder, renames it over the path and then removes the journal: whatever happens, the path holds either what it held
/// or the whole new file. Through a symbolic link what it leads to is written, and the link stays. All throw FileError.
class ResultsOutput {
public:
    ResultsOutput(const std::string& path, bool force);
    ~ResultsOutput();
    ResultsOutput(const ResultsOutput&) = delete;
    ResultsOutput& operator=(const ResultsOutput&) = delete;

    /// Of the file itself, where a symbolic link was given.
    const std::string& path() const { return path_; }
    void commit(const Results& results);

private:
    std::string path_;
    std::unique_ptr<FileLock> lock_;
    std::unique_ptr<StopAdvice> advice_;  ///< once the file is there
};

}  // namespace mobalab::experiments
