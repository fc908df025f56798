#include "experiments/commands/output_flags.h"

#include "analysis/routing_point.h"

namespace mobalab::experiments {

std::vector<Flag> resumable_output_flags() {
    return output_flags() + std::vector<Flag>{{"resume", "", "",
                                               "go on with an interrupted run of the same --out; starts "
                                               "it when there is none"}};
}

ResumableOutput::Mode output_mode(const Arguments& arguments) {
    if (arguments.on("force") && arguments.on("resume")) {
        throw analysis::InputError("force, resume: --force starts afresh and --resume goes on; give one of the two");
    }
    const bool with_file = arguments.given("out");
    if (!with_file && (arguments.on("force") || arguments.on("resume"))) {
        throw analysis::InputError("force, resume: are about a results file; name it with --out");
    }
    return arguments.on("force")    ? ResumableOutput::Mode::force
           : arguments.on("resume") ? ResumableOutput::Mode::resume
                                    : ResumableOutput::Mode::fresh;
}

}  // namespace mobalab::experiments
