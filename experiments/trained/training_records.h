#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace mobalab::experiments {

// What a training writes of a model (experiments/training), one struct a kind of record. Numbers that a record need not
// have are NaN, counts -1, lists and texts empty. Lists named sequence_... have an entry a sequence; sequences are
// independent draws, asked queries of one sequence are not. `place` says where a record stands: "FILE: line N".

/// Kind "run": a trained model.
struct TrainedRun {
    std::string name;        ///< "run" of all its records
    std::string experiment;  ///< recall or language
    std::string attention;   ///< dense, moba or local
    std::int64_t block_size = 0;
    std::int64_t topk = 0;      ///< blocks a query attends to, its own included; 0: not of MoBA
    std::string scorer;         ///< empty: not of MoBA
    std::int64_t key_conv = 0;  ///< width of the key convolution, 0: none
    std::int64_t head_dim = 0;
    std::int64_t heads = 0;
    std::int64_t layers = 0;
    std::int64_t width = 0;
    std::int64_t parameters = 0;
    std::int64_t seed = 0;
    std::int64_t seq_len = 0;  ///< longest length trained on
    std::int64_t steps = 0;
    std::int64_t tokens = 0;
    double seconds = 0.0;
    std::string device;
    std::string torch;
    std::string commit;
    std::int64_t window = -1;         ///< keys of the sliding window of the other layers
    std::int64_t vocabulary = -1;     ///< of a language model
    std::int64_t corpus_tokens = -1;  ///< of the text trained on
    std::int64_t needle_tokens = -1;  ///< trained on, of planted pairs
    std::string corpus_sha256;
    std::string stages;         ///< of its curriculum, in words: "N 128: 1040 steps, accuracy 0.981; ..."
    std::int64_t learned = -1;  ///< 1: it went through its curriculum; 0: it did not; -1: not said
    std::string place;

    bool is_moba() const { return attention == "moba"; }
};

/// Kind "accuracy": answers at one length.
struct AccuracyRecord {
    std::string run;
    std::string variant;  ///< what was changed for the evaluation; empty: as trained
    std::int64_t seq_len = 0;
    std::int64_t asked = 0;  ///< asked / sequences of each sequence
    std::int64_t correct = 0;
    std::int64_t sequences = 0;
    std::vector<std::int64_t> sequence_correct;
    std::int64_t own_block = 0;         ///< asked pairs that lie in the query's own block
    std::int64_t any_hit = 0;           ///< of the others: some head of some MoBA layer routed the pair's block
    std::int64_t any_hit_correct = -1;  ///< of the pairs that some head routed: answered
    std::int64_t no_hit_correct = -1;   ///< of the pairs that no head routed, not in the own block: answered
    std::vector<std::int64_t> sequence_own_block;
    std::vector<std::int64_t> sequence_any_hit;
    /// Mean over pairs of MoBA heads of the correlation, over queries, of their standardised scores of the pair's
    /// block.
    double signal_correlation = 0.0;
    std::string place;
};

/// Kind "head": what one head of a MoBA layer routed at one length.
struct HeadRecord {
    std::string run;
    std::string variant;
    std::int64_t seq_len = 0;
    std::int64_t layer = 0;
    std::int64_t head = 0;
    std::int64_t queries = 0;  ///< asked, their pair not in the own block
    std::int64_t hits = 0;     ///< of these: the kernel's own routing held the pair's block
    std::vector<std::int64_t> sequence_queries;
    std::vector<std::int64_t> sequence_hits;
    std::int64_t own_block = 0;
    std::map<std::int64_t, std::int64_t> candidates;  ///< number of past blocks -> queries that have so many
    std::map<std::string, double> statistics;         ///< by name, those of head_statistics() that the record has
    /// Offset from the asked pair's value in tokens -> mean over queries of the cosine of the query and the key there.
    std::map<std::int64_t, double> profile;
    std::string place;

    double statistic(const std::string& name) const;  ///< NaN: not recorded
};

/// A statistic that a record "head" may have.
struct HeadStatistic {
    const char* name;
    const char* long_name;
    const char* definition;
    bool is_spread;  ///< never negative
};
const std::vector<HeadStatistic>& head_statistics();

/// Kind "curve": a look at the model during training.
struct CurveRecord {
    std::string run;
    std::int64_t step = 0;
    std::int64_t seq_len = 0;
    std::int64_t tokens = 0;
    double loss = 0.0;
    double accuracy = 0.0;               ///< NaN: not recorded (so are all below)
    std::int64_t measured_seq_len = -1;  ///< length that what follows was measured at
    double measured_accuracy = 0.0;
    std::int64_t layer = -1;  ///< that retrieves best
    std::int64_t hits = -1;   ///< of its heads together
    std::int64_t queries = -1;
    double signal_mean = 0.0;
    double signal_sd = 0.0;
    double seconds = 0.0;
    std::string place;
};

/// Kind "position": loss of tokens from <= i < to.
struct PositionRecord {
    std::string run;
    std::int64_t seq_len = 0;
    std::int64_t from = 0;
    std::int64_t to = 0;
    std::int64_t tokens = 0;
    double loss = 0.0;  ///< nats a token
    std::vector<double> sequence_loss;
    std::string place;
};

/// Kind "validation": loss on text that was not trained on.
struct ValidationRecord {
    std::string run;
    std::int64_t step = 0;
    std::int64_t seq_len = 0;
    std::int64_t tokens = 0;
    double loss = 0.0;  ///< nats a token
    std::vector<double> sequence_loss;
    /// The document in which each sequence begins; empty: not recorded, every sequence is one of its own.
    std::vector<std::int64_t> sequence_document;
    std::string place;
};

/// Kind "needle": a pair planted in a text and asked for at its end.
struct NeedleRecord {
    std::string run;
    std::int64_t seq_len = 0;
    double depth = 0.0;  ///< 0: at the beginning, 1: at the end
    std::int64_t asked = 0;
    std::int64_t correct = 0;
    std::string place;
};

/// All records of the files read, by kind, each in the order in which it was read.
struct TrainingRecords {
    std::vector<TrainedRun> runs;
    std::vector<AccuracyRecord> accuracies;
    std::vector<HeadRecord> heads;
    std::vector<CurveRecord> curves;
    std::vector<PositionRecord> positions;
    std::vector<ValidationRecord> validations;
    std::vector<NeedleRecord> needles;

    const TrainedRun& run(const std::string& name) const;  ///< throws std::out_of_range
};

}  // namespace mobalab::experiments
