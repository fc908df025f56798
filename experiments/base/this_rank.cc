#include "experiments/base/this_rank.h"

namespace mobalab::experiments {

ThisRank& this_rank() {
    static ThisRank present;
    return present;
}

}  // namespace mobalab::experiments
