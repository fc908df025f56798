#include "experiments/trained/record_kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "analysis/limits.h"
#include "experiments/base/values.h"

namespace mobalab::experiments {
namespace {

/// Above these no model and no training is; products of two stay in 64 bits.
constexpr std::int64_t most_size = std::int64_t{1} << 31;
constexpr std::int64_t most_count = std::int64_t{1} << 53;
constexpr FieldRange not_negative = {0.0, std::numeric_limits<double>::max()};
constexpr FieldRange any_number = {std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max()};
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

using Counts = std::vector<std::int64_t>;

std::int64_t sum_of(const Counts& counts) {
    return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

void require_sum(const RecordFields& fields, const std::string& list, const Counts& counts, const std::string& total,
                 std::int64_t wanted) {
    if (sum_of(counts) != wanted) {
        fields.fail(list, fmt::format("sums to {} and must sum to {} = {}", sum_of(counts), total, wanted));
    }
}

void require_length(const RecordFields& fields, const std::string& list, std::size_t length, const std::string& what,
                    std::size_t wanted) {
    if (length != wanted) {
        fields.fail(list, fmt::format("has {} entries and must have one a sequence: {} ({})", length, wanted, what));
    }
}

/// part[i] <= whole[i], as of hits and queries of a sequence.
void require_parts(const RecordFields& fields, const std::string& list, const Counts& part, const std::string& of,
                   const Counts& whole) {
    require_length(fields, list, part.size(), of, whole.size());
    for (std::size_t i = 0; i < part.size(); ++i) {
        if (part[i] > whole[i]) {
            fields.fail(list, fmt::format("entry {} is {} and must be at most {} ({})", i, part[i], whole[i], of));
        }
    }
}

std::string scorer_of(RecordFields& fields, bool moba) {
    const std::string scorer = fields.text_or_empty("scorer");
    const bool submean = scorer.starts_with("submean-");
    if (!moba && !scorer.empty()) {
        fields.fail("scorer", "must be empty: only attention moba routes");
    }
    if (moba && !submean) {
        return fields.one_of("scorer", {"mean", "quest", "max", "random", "submean-2"});
    }
    if (submean) {
        try {
            parse_integer("scorer", scorer.substr(8), {2, most_size});
        } catch (const std::invalid_argument&) {
            fields.fail("scorer", "must be submean-R with R sub-blocks of a block; for example submean-2");
        }
    }
    return scorer;
}

std::string variant_of(RecordFields& fields) {
    return fields.has("variant") ? fields.text_or_empty("variant") : "";
}

double number_or_nan(RecordFields& fields, const std::string& name, FieldRange range) {
    return fields.has(name) ? fields.number(name, range) : nan;
}

Counts counts_if_there(RecordFields& fields, const std::string& name) {
    return fields.has(name) ? fields.integers(name, 0, most_size) : Counts{};
}

std::int64_t integer_or_none(RecordFields& fields, const std::string& name, std::int64_t most) {
    return fields.has(name) ? fields.integer(name, 0, most) : -1;
}

/// Triples of length, steps and accuracy at the end.
std::string stages_text(RecordFields& fields) {
    std::string text;
    for (const std::vector<double>& stage : fields.rows("stages", 3)) {
        text +=
            fmt::format("{}N {}: {} steps, accuracy {:.3f}", text.empty() ? "" : "; ", stage[0], stage[1], stage[2]);
    }
    return text;
}

std::map<std::int64_t, double> profile_of(RecordFields& fields) {
    std::map<std::int64_t, double> profile;
    for (const std::vector<double>& row : fields.rows("profile", 2)) {
        if (row[0] != std::floor(row[0]) || std::abs(row[0]) > static_cast<double>(most_size)) {
            fields.fail("profile", "must be a list of pairs [offset, cosine] with whole offsets");
        }
        if (!profile.emplace(static_cast<std::int64_t>(row[0]), row[1]).second) {
            fields.fail("profile", fmt::format("has the offset {} twice", row[0]));
        }
    }
    return profile;
}

void read_routing(RecordFields& fields, TrainedRun& run) {
    run.scorer = scorer_of(fields, run.is_moba());
    run.key_conv = fields.integer("key_conv", 0, analysis::most_key_conv);
    run.block_size = fields.integer("block_size", run.is_moba() ? 1 : 0, most_size);
    run.topk = fields.integer("topk", run.is_moba() ? 1 : 0, run.is_moba() ? most_size : 0);
}

}  // namespace

TrainedRun read_run(RecordFields& fields) {
    TrainedRun run;
    run.name = fields.text("run");
    run.experiment = fields.one_of("experiment", {"recall", "language"});
    run.attention = fields.one_of("attention", {"dense", "moba", "local"});
    read_routing(fields, run);
    run.head_dim = fields.integer("head_dim", 1, most_size);
    run.heads = fields.integer("heads", 1, most_size);
    run.layers = fields.integer("layers", 1, most_size);
    run.width = fields.integer("width", 1, most_size);
    run.parameters = fields.integer("parameters", 1, most_count);
    run.seed = fields.integer("seed", 0, std::numeric_limits<std::int64_t>::max());
    run.seq_len = fields.integer("seq_len", 1, most_size);
    run.steps = fields.integer("steps", 0, most_count);
    run.tokens = fields.integer("tokens", 0, most_count);
    run.seconds = fields.number("seconds", not_negative);
    run.device = fields.text("device");
    run.torch = fields.text("torch");
    run.commit = fields.text_or_empty("commit");
    run.stages = fields.has("stages") ? stages_text(fields) : "";
    run.learned = integer_or_none(fields, "learned", 1);
    run.window = integer_or_none(fields, "window", most_size);
    run.vocabulary = integer_or_none(fields, "vocabulary", most_size);
    run.corpus_tokens = integer_or_none(fields, "corpus_tokens", most_count);
    run.needle_tokens = integer_or_none(fields, "needle_tokens", most_count);
    run.corpus_sha256 = fields.has("corpus_sha256") ? fields.text_or_empty("corpus_sha256") : "";
    return run;
}

AccuracyRecord read_accuracy(RecordFields& fields) {
    AccuracyRecord record;
    record.run = fields.text("run");
    record.variant = variant_of(fields);
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.asked = fields.integer("asked", 1, most_count);
    record.sequences = fields.integer("sequences", 1, most_size);
    if (record.asked % record.sequences != 0) {
        fields.fail("asked",
                    fmt::format("must be a multiple of sequences = {}: every sequence asks as many", record.sequences));
    }
    const Counts whole(static_cast<std::size_t>(record.sequences), record.asked / record.sequences);
    record.correct = fields.integer("correct", 0, record.asked);
    record.sequence_correct = fields.integers("sequence_correct", 0, most_size);
    require_parts(fields, "sequence_correct", record.sequence_correct, "asked of a sequence", whole);
    require_sum(fields, "sequence_correct", record.sequence_correct, "correct", record.correct);
    record.own_block = fields.integer("own_block", 0, record.asked);
    record.any_hit = fields.integer("any_hit", 0, record.asked - record.own_block);
    record.any_hit_correct = integer_or_none(fields, "any_hit_correct", std::min(record.any_hit, record.correct));
    record.no_hit_correct = integer_or_none(fields, "no_hit_correct", record.asked - record.own_block - record.any_hit);
    record.signal_correlation = number_or_nan(fields, "signal_correlation", {-1.0, 1.0});
    record.sequence_own_block = counts_if_there(fields, "sequence_own_block");
    record.sequence_any_hit = counts_if_there(fields, "sequence_any_hit");
    if (record.sequence_own_block.empty() != record.sequence_any_hit.empty()) {
        fields.fail(record.sequence_own_block.empty() ? "sequence_any_hit" : "sequence_own_block",
                    "sequence_own_block and sequence_any_hit go together; give both or none");
    }
    if (!record.sequence_own_block.empty()) {
        require_parts(fields, "sequence_own_block", record.sequence_own_block, "asked of a sequence", whole);
        require_sum(fields, "sequence_own_block", record.sequence_own_block, "own_block", record.own_block);
        Counts far = whole;
        for (std::size_t i = 0; i < far.size(); ++i) {
            far[i] -= record.sequence_own_block[i];
        }
        require_parts(fields, "sequence_any_hit", record.sequence_any_hit, "asked of a sequence, not in its own block",
                      far);
        require_sum(fields, "sequence_any_hit", record.sequence_any_hit, "any_hit", record.any_hit);
    }
    return record;
}

HeadRecord read_head(RecordFields& fields) {
    HeadRecord record;
    record.run = fields.text("run");
    record.variant = variant_of(fields);
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.layer = fields.integer("layer", 0, most_size);
    record.head = fields.integer("head", 0, most_size);
    record.queries = fields.integer("queries", 0, most_count);
    record.hits = fields.integer("hits", 0, record.queries);
    record.sequence_queries = fields.integers("sequence_queries", 0, most_size);
    require_sum(fields, "sequence_queries", record.sequence_queries, "queries", record.queries);
    record.sequence_hits = fields.integers("sequence_hits", 0, most_size);
    require_parts(fields, "sequence_hits", record.sequence_hits, "sequence_queries", record.sequence_queries);
    require_sum(fields, "sequence_hits", record.sequence_hits, "hits", record.hits);
    record.own_block = fields.integer("own_block", 0, most_count);
    record.candidates = fields.histogram("candidates", analysis::most_candidates);
    Counts rows;
    for (const auto& [candidates, count] : record.candidates) {
        rows.push_back(count);
    }
    require_sum(fields, "candidates", rows, "queries", record.queries);
    for (const HeadStatistic& statistic : head_statistics()) {
        if (fields.has(statistic.name)) {
            record.statistics[statistic.name] =
                fields.number(statistic.name, statistic.is_spread ? not_negative : any_number);
        }
    }
    if (fields.has("profile")) {
        record.profile = profile_of(fields);
    }
    return record;
}

CurveRecord read_curve(RecordFields& fields) {
    CurveRecord record;
    record.run = fields.text("run");
    record.step = fields.integer("step", 0, most_count);
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.tokens = fields.integer("tokens", 0, most_count);
    record.loss = fields.number("loss", not_negative);
    record.accuracy = number_or_nan(fields, "accuracy", {0.0, 1.0});
    record.measured_seq_len = integer_or_none(fields, "measured_seq_len", most_size);
    record.measured_accuracy = number_or_nan(fields, "measured_accuracy", {0.0, 1.0});
    record.layer = integer_or_none(fields, "layer", most_size);
    if (fields.has("queries") || fields.has("hits")) {
        record.queries = fields.integer("queries", 0, most_count);
        record.hits = fields.integer("hits", 0, record.queries);
    }
    record.signal_mean = number_or_nan(fields, "signal_mean", any_number);
    record.signal_sd = number_or_nan(fields, "signal_sd", not_negative);
    record.seconds = number_or_nan(fields, "seconds", not_negative);
    return record;
}

PositionRecord read_position(RecordFields& fields) {
    PositionRecord record;
    record.run = fields.text("run");
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.to = fields.integer("to", 1, record.seq_len);
    record.from = fields.integer("from", 0, record.to - 1);
    record.tokens = fields.integer("tokens", 1, most_count);
    record.loss = fields.number("loss", not_negative);
    if (fields.has("sequence_loss") || fields.has("sequences")) {
        record.sequence_loss = fields.numbers("sequence_loss", not_negative);
    }
    if (fields.has("sequences")) {
        const auto wanted = static_cast<std::size_t>(fields.integer("sequences", 1, most_size));
        require_length(fields, "sequence_loss", record.sequence_loss.size(), "sequences", wanted);
    }
    return record;
}

ValidationRecord read_validation(RecordFields& fields) {
    ValidationRecord record;
    record.run = fields.text("run");
    record.step = fields.integer("step", 0, most_count);
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.tokens = fields.integer("tokens", 1, most_count);
    record.loss = fields.number("loss", not_negative);
    record.sequence_loss = fields.numbers("sequence_loss", not_negative);
    const std::string count = fields.has("documents") ? "documents" : "sequences";
    const auto wanted = static_cast<std::size_t>(fields.integer(count, 1, most_size));
    require_length(fields, "sequence_loss", record.sequence_loss.size(), count, wanted);
    record.sequence_document = counts_if_there(fields, "sequence_document");
    if (!record.sequence_document.empty()) {
        require_length(fields, "sequence_document", record.sequence_document.size(), count, wanted);
    }
    return record;
}

NeedleRecord read_needle(RecordFields& fields) {
    NeedleRecord record;
    record.run = fields.text("run");
    record.seq_len = fields.integer("seq_len", 1, most_size);
    record.depth = fields.number("depth", {0.0, 1.0});
    record.asked = fields.integer("asked", 1, most_count);
    record.correct = fields.integer("correct", 0, record.asked);
    if (fields.has("sequence_correct")) {
        const Counts correct = fields.integers("sequence_correct", 0, 1);
        require_length(fields, "sequence_correct", correct.size(), "asked", static_cast<std::size_t>(record.asked));
        require_sum(fields, "sequence_correct", correct, "correct", record.correct);
    }
    return record;
}

}  // namespace mobalab::experiments
