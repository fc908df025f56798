#include "experiments/probe/probe_sources.h"

#include <utility>

#include "experiments/probe/needle_source.h"
#include "experiments/probe/text_source.h"

namespace mobalab::experiments {

std::unique_ptr<ProbeSource> make_probe_source(const ProbeJob& job, std::shared_ptr<analysis::MissCurves> curves) {
    if (job.text) {
        return std::make_unique<TextSource>(job);
    }
    return std::make_unique<NeedleSource>(job, std::move(curves));
}

}  // namespace mobalab::experiments
