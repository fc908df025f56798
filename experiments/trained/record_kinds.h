#pragma once

#include "experiments/trained/record_fields.h"
#include "experiments/trained/training_records.h"

namespace mobalab::experiments {

// One function a kind: the record with its rules. What several records say of each other is training_reader's to check.
// All throw FileError naming file, line, field, value and rule.

TrainedRun read_run(RecordFields& fields);
AccuracyRecord read_accuracy(RecordFields& fields);
HeadRecord read_head(RecordFields& fields);
CurveRecord read_curve(RecordFields& fields);
PositionRecord read_position(RecordFields& fields);
ValidationRecord read_validation(RecordFields& fields);
NeedleRecord read_needle(RecordFields& fields);

}  // namespace mobalab::experiments
