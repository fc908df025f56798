#pragma once

#include "sim/simd/fill.h"
#include "sim/simd/fill_scores.h"
#include "sim/simd/key_tile.h"
#include "sim/simd/reduce.h"
#include "sim/simd/tables.h"
#include "sim/simd/threshold.h"
#include "sim/simd/vector_affinities.h"

namespace mobalab::sim::MOBALAB_SIMD {

inline constexpr HotLoops loops(InstructionSet set) {
    return {set,
            fill_gaussian,
            fill_affinities,
            fill_scores,
            sum_affinities,
            sum_blocks,
            compare_scores,
            vector_affinities,
            signal_words,
            thresholds_of,
            count_digits,
            tied_blocks,
            draw_keys,
            project_keys,
            mix_keys,
            convolved_affinities,
            summarise_keys};
}

}  // namespace mobalab::sim::MOBALAB_SIMD
