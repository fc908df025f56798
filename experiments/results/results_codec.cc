// Results <-> the bytes of an HDF5 file. The file is built and read in memory (HDF5's core driver): what reaches the
// disk is one buffer, written by write_file_atomically(), so that a full disk cannot leave the library half closed.

#include <fmt/format.h>
#include <hdf5.h>
#include <hdf5_hl.h>

#include <numeric>
#include <set>
#include <utility>

#include "experiments/results/column_names.h"
#include "experiments/results/results_file.h"
#include "experiments/results/seal.h"

namespace mobalab::experiments {
namespace {

constexpr const char* schema_name = "mobalab results";

/// An HDF5 identifier with its closing function. A negative one throws.
class Handle {
public:
    Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {
        if (id_ < 0) {
            throw std::runtime_error("the HDF5 library refused it");
        }
    }
    ~Handle() {
        if (id_ >= 0) {
            close_(id_);
        }
    }
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

    operator hid_t() const { return id_; }

private:
    hid_t id_;
    herr_t (*close_)(hid_t);
};

void require(herr_t status) {
    if (status < 0) {
        throw std::runtime_error("the HDF5 library refused it");
    }
}

/// Keeps HDF5 from printing its own error stack: errors leave this file as exceptions.
class QuietErrors {
public:
    QuietErrors() {
        H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
        H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    }
    ~QuietErrors() { H5Eset_auto2(H5E_DEFAULT, print_, data_); }
    QuietErrors(const QuietErrors&) = delete;
    QuietErrors& operator=(const QuietErrors&) = delete;

private:
    H5E_auto2_t print_ = nullptr;
    void* data_ = nullptr;
};

Handle text_type() {
    Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    require(H5Tset_size(type, H5T_VARIABLE));
    require(H5Tset_cset(type, H5T_CSET_UTF8));
    return type;
}

// ---- writing ----

void write_attribute(hid_t object, const std::string& name, const Attribute& value) {
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    const auto write = [&](hid_t type, const void* data) {
        const Handle attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
        require(H5Awrite(attribute, type, data));
    };
    if (const auto* text = std::get_if<std::string>(&value)) {
        const char* data = text->c_str();
        write(text_type(), &data);
    } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
        write(H5T_NATIVE_INT64, integer);
    } else {
        write(H5T_NATIVE_DOUBLE, &std::get<double>(value));
    }
}

/// Objects without times (the same results give the same bytes) that remember the order they were made in (xarray then
/// shows the columns in the order of the table).
Handle creation_properties(hid_t kind) {
    Handle properties(H5Pcreate(kind), H5Pclose);
    require(H5Pset_obj_track_times(properties, false));
    require(H5Pset_attr_creation_order(properties, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED));
    if (kind != H5P_DATASET_CREATE) {
        require(H5Pset_link_creation_order(properties, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED));
    }
    return properties;
}

Handle write_dataset(hid_t group, const std::string& name, hid_t type, const void* data, std::size_t rows) {
    const hsize_t size = rows;
    const Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
    const Handle properties = creation_properties(H5P_DATASET_CREATE);
    Handle dataset(H5Dcreate2(group, name.c_str(), type, space, H5P_DEFAULT, properties, H5P_DEFAULT), H5Dclose);
    if (rows != 0) {
        require(H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
    }
    return dataset;
}

Handle write_values(hid_t group, const Column& column) {
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&column.values)) {
        return write_dataset(group, column.name, H5T_NATIVE_INT64, integers->data(), integers->size());
    }
    if (const auto* reals = std::get_if<std::vector<double>>(&column.values)) {
        return write_dataset(group, column.name, H5T_NATIVE_DOUBLE, reals->data(), reals->size());
    }
    std::vector<const char*> pointers;
    for (const std::string& text : std::get<std::vector<std::string>>(column.values)) {
        pointers.push_back(text.c_str());
    }
    return write_dataset(group, column.name, text_type(), pointers.data(), pointers.size());
}

void check_table(const Table& table) {
    std::set<std::string> names = {table.dimension};
    for (const Column& column : table.columns) {
        if (!names.insert(column.name).second) {
            throw std::invalid_argument(fmt::format("table {}: column {} appears twice", table.name, column.name));
        }
        if (column.size() != table.rows()) {
            throw std::invalid_argument(fmt::format("table {}: column {} has {} rows, the first has {}", table.name,
                                                    column.name, column.size(), table.rows()));
        }
    }
}

void write_table(hid_t file, const Table& table) {
    check_table(table);
    const Handle properties = creation_properties(H5P_GROUP_CREATE);
    const Handle group(H5Gcreate2(file, table.name.c_str(), H5P_DEFAULT, properties, H5P_DEFAULT), H5Gclose);
    std::vector<std::int64_t> row_numbers(table.rows());
    std::iota(row_numbers.begin(), row_numbers.end(), std::int64_t{0});
    const Handle scale = write_values(group, {table.dimension, "", "", row_numbers});
    require(H5DSset_scale(scale, table.dimension.c_str()));
    for (const Column& column : table.columns) {
        const Handle dataset = write_values(group, column);
        require(H5DSattach_scale(dataset, scale, 0));
        write_attribute(dataset, "long_name", column.long_name);
        if (!column.units.empty()) {
            write_attribute(dataset, "units", column.units);
        }
        if (!column.definition.empty()) {
            write_attribute(dataset, "definition", column.definition);
        }
        if (column.missing) {
            write_attribute(dataset, "_FillValue", *column.missing);
        }
    }
    for (const auto& [name, value] : table.attributes) {
        write_attribute(group, name, value);
    }
}

void write_root(hid_t file, const Results& results) {
    write_attribute(file, "schema", schema_name);
    write_attribute(file, "schema_version", results_schema_version);
    write_attribute(file, "subcommand", results.subcommand);
    write_attribute(file, "task", results.task);
    write_attribute(file, "command", results.command);
    write_attribute(file, "settings", results.settings);
    if (results.seed) {
        write_attribute(file, "seed", static_cast<std::int64_t>(*results.seed));
    }
    write_attribute(file, "version", results.version);
    write_attribute(file, "git_commit", results.git_commit);
    write_attribute(file, "build", results.build);
    write_attribute(file, "device", results.device);
    write_attribute(file, "utc_time", results.utc_time);
}

Handle in_memory_access() {
    Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    require(H5Pset_fapl_core(access, 1 << 20, false));
    return access;
}

// ---- reading ----

std::string read_text(hid_t attribute) {
    char* data = nullptr;
    require(H5Aread(attribute, text_type(), &data));
    std::string text = data == nullptr ? "" : data;
    H5free_memory(data);
    return text;
}

Attribute read_attribute(hid_t object, const std::string& name) {
    const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
    const Handle type(H5Aget_type(attribute), H5Tclose);
    const Handle space(H5Aget_space(attribute), H5Sclose);
    if (H5Sget_simple_extent_npoints(space) != 1) {
        throw std::runtime_error("the attribute " + name + " is not one value");
    }
    if (H5Tget_class(type) == H5T_INTEGER) {
        std::int64_t value = 0;
        require(H5Aread(attribute, H5T_NATIVE_INT64, &value));
        return value;
    }
    if (H5Tget_class(type) == H5T_FLOAT) {
        double value = 0.0;
        require(H5Aread(attribute, H5T_NATIVE_DOUBLE, &value));
        return value;
    }
    return read_text(attribute);
}

template <typename Value>
Value read_value(hid_t object, const std::string& name) {
    const Attribute value = read_attribute(object, name);
    if (!std::holds_alternative<Value>(value)) {
        throw std::runtime_error("the attribute " + name + " has the wrong type");
    }
    return std::get<Value>(value);
}

bool has_attribute(hid_t object, const char* name) {
    return H5Aexists(object, name) > 0;
}

std::string read_if_there(hid_t object, const char* name) {
    return has_attribute(object, name) ? read_value<std::string>(object, name) : "";
}

template <typename Value>
std::vector<Value> read_numbers(hid_t dataset, hid_t memory_type, std::size_t rows) {
    std::vector<Value> values(rows);
    require(H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
    return values;
}

std::vector<std::string> read_texts(hid_t dataset, hid_t space, std::size_t rows) {
    std::vector<char*> pointers(rows, nullptr);
    const Handle type = text_type();
    require(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
    std::vector<std::string> texts;
    texts.reserve(rows);
    for (const char* pointer : pointers) {
        texts.emplace_back(pointer == nullptr ? "" : pointer);
    }
    require(H5Dvlen_reclaim(type, space, H5P_DEFAULT, pointers.data()));
    return texts;
}

Column read_column(hid_t dataset, const std::string& name) {
    Column column;
    column.name = name;
    column.long_name = read_value<std::string>(dataset, "long_name");
    column.units = read_if_there(dataset, "units");
    column.definition = read_if_there(dataset, "definition");
    if (has_attribute(dataset, "_FillValue")) {
        column.missing = read_value<std::int64_t>(dataset, "_FillValue");
    }
    const Handle space(H5Dget_space(dataset), H5Sclose);
    const hssize_t points = H5Sget_simple_extent_npoints(space);
    if (H5Sget_simple_extent_ndims(space) != 1 || points < 0) {
        throw std::runtime_error("the column " + name + " is not one-dimensional");
    }
    const auto rows = static_cast<std::size_t>(points);
    const Handle type(H5Dget_type(dataset), H5Tclose);
    switch (H5Tget_class(type)) {
        case H5T_INTEGER:
            column.values = read_numbers<std::int64_t>(dataset, H5T_NATIVE_INT64, rows);
            break;
        case H5T_FLOAT:
            column.values = read_numbers<double>(dataset, H5T_NATIVE_DOUBLE, rows);
            break;
        default:
            column.values = rows == 0 ? std::vector<std::string>() : read_texts(dataset, space, rows);
    }
    return column;
}

/// Names of the links of a group, in the order they were made.
std::vector<std::string> link_names(hid_t group) {
    H5G_info_t info;
    require(H5Gget_info(group, &info));
    std::vector<std::string> names;
    for (hsize_t index = 0; index < info.nlinks; ++index) {
        const auto get = [&](char* name, std::size_t size) {
            return H5Lget_name_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, index, name, size, H5P_DEFAULT);
        };
        const ssize_t length = get(nullptr, 0);
        require(length < 0 ? -1 : 0);
        std::string name(static_cast<std::size_t>(length) + 1, '\0');
        get(name.data(), name.size());
        name.pop_back();
        names.push_back(name);
    }
    return names;
}

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* names) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
}

Table read_table(hid_t file, const std::string& name) {
    const Handle group(H5Gopen2(file, name.c_str(), H5P_DEFAULT), H5Gclose);
    Table table;
    table.name = name;
    table.columns = {};
    for (const std::string& link : link_names(group)) {
        const Handle dataset(H5Dopen2(group, link.c_str(), H5P_DEFAULT), H5Dclose);
        if (H5DSis_scale(dataset) > 0) {
            table.dimension = link;
        } else {
            table.columns.push_back(read_column(dataset, link));
        }
    }
    std::vector<std::string> attributes;
    require(H5Aiterate2(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect_attribute, &attributes));
    for (const std::string& attribute : attributes) {
        table.attributes[attribute] = read_attribute(group, attribute);
    }
    check_table(table);
    return table;
}

/// The file is HDF5: is it ours, and of a version that is read here? Returns it.
std::int64_t check_schema(hid_t file, const std::string& path) {
    if (!has_attribute(file, "schema") || read_value<std::string>(file, "schema") != schema_name) {
        throw FileError(fmt::format("{}: is an HDF5 file but not a mobalab results file", path));
    }
    const auto schema_version = read_value<std::int64_t>(file, "schema_version");
    if (schema_version < 1 || schema_version > results_schema_version) {
        throw FileError(fmt::format("{}: has results schema version {}; this mobalab reads versions 1 to {}", path,
                                    schema_version, results_schema_version));
    }
    return schema_version;
}

Results read_file_contents(hid_t file) {
    const auto text = [file](const char* name) { return read_value<std::string>(file, name); };
    Results results;
    results.subcommand = text("subcommand");
    results.task = text("task");
    results.command = text("command");
    results.settings = text("settings");
    if (has_attribute(file, "seed")) {
        results.seed = static_cast<std::uint64_t>(read_value<std::int64_t>(file, "seed"));
    }
    results.version = text("version");
    results.git_commit = text("git_commit");
    results.build = text("build");
    results.device = text("device");
    results.utc_time = text("utc_time");
    for (const std::string& name : link_names(file)) {
        results.tables.push_back(read_table(file, name));
    }
    return results;
}

}  // namespace

std::vector<char> encode_results(const Results& results) {
    const QuietErrors quiet;
    const Handle properties = creation_properties(H5P_FILE_CREATE);
    const Handle access = in_memory_access();
    const Handle file(H5Fcreate("results in memory", H5F_ACC_TRUNC, properties, access), H5Fclose);
    write_root(file, results);
    for (const Table& table : results.tables) {
        write_table(file, table);
    }
    require(H5Fflush(file, H5F_SCOPE_GLOBAL));
    const ssize_t size = H5Fget_file_image(file, nullptr, 0);
    require(size < 0 ? -1 : 0);
    std::vector<char> bytes(static_cast<std::size_t>(size));
    require(H5Fget_file_image(file, bytes.data(), bytes.size()) == size ? 0 : -1);
    return sealed(std::move(bytes));
}

Results decode_results(std::vector<char> bytes, const std::string& path) {
    const QuietErrors quiet;
    const char* damaged = "is not a readable mobalab results file (foreign, truncated or damaged)";
    if (bytes.empty()) {
        throw FileError(fmt::format("{}: {}: it is empty", path, damaged));
    }
    try {
        bytes = unsealed(std::move(bytes));
        const Handle access = in_memory_access();
        require(H5Pset_file_image(access, bytes.data(), bytes.size()));
        const Handle file(H5Fopen("results in memory", H5F_ACC_RDONLY, access), H5Fclose);
        const std::int64_t schema_version = check_schema(file, path);
        Results results = read_file_contents(file);
        if (schema_version == 1) {
            rename_from_version_1(results);
        }
        return results;
    } catch (const FileError&) {
        throw;
    } catch (const std::exception& error) {
        throw FileError(fmt::format("{}: {}: {}", path, damaged, error.what()));
    }
}

}  // namespace mobalab::experiments
