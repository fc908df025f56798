#pragma once

#include <string>
#include <vector>

#include "experiments/advise/evidence.h"
#include "experiments/results/results_file.h"

namespace mobalab::experiments {

/// Which rows of a table `measure` are looked at; an empty list takes all.
struct MeasuredRows {
    std::vector<std::string> traces = {};
    std::vector<std::string> scorers = {};
    std::vector<std::int64_t> block_sizes = {};
    std::vector<std::int64_t> topks = {};
    std::vector<bool> keep_first = {};
};

/// The evidence of a table `measure`. Heads are (layer, head); one that several traces measured counts once, with the
/// mean of its numbers. Only settings measured on every head of every trace are compared: the others are left out, and
/// so are those without leaves_a_choice(); a note says how many.
///
/// `path` is for messages. Throws FileError where columns are missing or of another type, a setting is measured twice
/// on a head, or a share or its interval is no such thing (outside [0, 1], low above high, NaN recall), and
/// analysis::InputError where nothing is left or the traces are of different models, lengths, widths or kinds of keys
/// (before or after rotation): numbers that no mean can be taken of.
Evidence measured_evidence(const Table& table, const MeasuredRows& wanted, const std::string& path);

}  // namespace mobalab::experiments
