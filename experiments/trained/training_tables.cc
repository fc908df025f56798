#include "experiments/trained/training_tables.h"

#include "experiments/trained/arm_tables.h"
#include "experiments/trained/language_tables.h"
#include "experiments/trained/recall_tables.h"
#include "experiments/trained/run_tables.h"

namespace mobalab::experiments {

std::vector<Table> training_tables(const TrainingRecords& records, const TrainedOutcomes& outcomes, double confidence) {
    std::vector<Table> tables = {
        training_table(outcomes),
        training_arms_table(records, outcomes, confidence),
        training_errors_table(records, outcomes, confidence),
        training_heads_table(outcomes),
        training_profiles_table(outcomes),
        training_validation_table(records, confidence),
        training_positions_table(records, confidence),
        training_needles_table(records, confidence),
        training_curves_table(records),
        training_runs_table(records),
    };
    std::erase_if(tables, [](const Table& table) { return table.rows() == 0; });
    for (Table& table : tables) {
        table.attributes["confidence"] = confidence;
    }
    return tables;
}

}  // namespace mobalab::experiments
