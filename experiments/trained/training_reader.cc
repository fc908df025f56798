#include "experiments/trained/training_reader.h"

#include <fmt/format.h>

#include <map>
#include <string_view>
#include <utility>

#include "experiments/base/interrupt.h"
#include "experiments/base/regular_file.h"
#include "experiments/base/values.h"
#include "experiments/trace/checked_json.h"
#include "experiments/trained/record_consistency.h"
#include "experiments/trained/record_kinds.h"

namespace mobalab::experiments {
namespace {

/// Records as they are read, and where the first of each identity stands.
class RecordCollection {
public:
    void add(RecordFields& fields) {
        const std::string kind =
            fields.one_of("kind", {"run", "accuracy", "head", "curve", "position", "validation", "needle"});
        if (kind == "run") {
            keep(fields, records_.runs, read_run(fields), [](const TrainedRun& r) { return r.name; });
        } else if (kind == "accuracy") {
            keep(fields, records_.accuracies, read_accuracy(fields), [](const AccuracyRecord& r) {
                return fmt::format("{}, seq_len {}", of_variant(r.run, r.variant), r.seq_len);
            });
        } else if (kind == "head") {
            keep(fields, records_.heads, read_head(fields), [](const HeadRecord& r) {
                return fmt::format("{}, seq_len {}, layer {}, head {}", of_variant(r.run, r.variant), r.seq_len,
                                   r.layer, r.head);
            });
        } else if (kind == "curve") {
            keep(fields, records_.curves, read_curve(fields),
                 [](const CurveRecord& r) { return fmt::format("{}, seq_len {}, step {}", r.run, r.seq_len, r.step); });
        } else if (kind == "position") {
            keep(fields, records_.positions, read_position(fields), [](const PositionRecord& r) {
                return fmt::format("{}, seq_len {}, from {}", r.run, r.seq_len, r.from);
            });
        } else if (kind == "validation") {
            keep(fields, records_.validations, read_validation(fields), [](const ValidationRecord& r) {
                return fmt::format("{}, seq_len {}, step {}", r.run, r.seq_len, r.step);
            });
        } else {
            keep(fields, records_.needles, read_needle(fields), [](const NeedleRecord& r) {
                return fmt::format("{}, seq_len {}, depth {}", r.run, r.seq_len, shortest(r.depth));
            });
        }
    }

    TrainingRecords take() && { return std::move(records_); }

private:
    static std::string of_variant(const std::string& run, const std::string& variant) {
        return variant.empty() ? run : fmt::format("{}, variant {}", run, variant);
    }

    template <typename Record, typename Identity>
    void keep(RecordFields& fields, std::vector<Record>& all, Record record, Identity identity) {
        fields.refuse_others();
        const std::string name = fmt::format("{} of run {}", fields.text("kind"), shown(identity(record), 200));
        const auto [first, is_new] = first_.emplace(name, fields.place());
        if (!is_new) {
            throw FileError(fmt::format("{}: is a second record {}; the first is {}; keep one of them", fields.place(),
                                        name, first->second));
        }
        record.place = fields.place();
        all.push_back(std::move(record));
    }

    TrainingRecords records_;
    std::map<std::string, std::string> first_;
};

void read_lines(const std::string& path, RecordCollection& records) {
    const std::vector<char> bytes = read_file(path);
    std::string_view rest(bytes.data(), bytes.size());
    if (rest.empty()) {
        throw FileError(path + ": is empty; a training writes a record a line to it");
    }
    for (std::int64_t number = 1; !rest.empty(); ++number) {
        const std::string place = fmt::format("{}: line {}", path, number);
        const std::size_t end = rest.find('\n');
        if (end == std::string_view::npos) {
            throw FileError(
                fmt::format("{}: has no end: the file was cut short; let the training go on until it is "
                            "done, or remove the line",
                            place));
        }
        stop_if_interrupted();
        RecordFields fields(checked_json(rest.substr(0, end), place), place);
        records.add(fields);
        rest.remove_prefix(end + 1);
    }
}

}  // namespace

TrainingRecords read_training_records(const std::vector<std::string>& paths) {
    RecordCollection records;
    for (const std::string& path : paths) {
        read_lines(path, records);
    }
    TrainingRecords all = std::move(records).take();
    require_consistent(all);
    return all;
}

}  // namespace mobalab::experiments
