#pragma once

#include <memory>

#include "analysis/miss_curve.h"
#include "experiments/probe/needle_probe.h"
#include "experiments/probe/probe_source.h"

namespace mobalab::experiments {

/// The source of a job: a text where it has one, else needles among unit keys. `curves`: what other sources have
/// computed already.
std::unique_ptr<ProbeSource> make_probe_source(const ProbeJob& job,
                                               std::shared_ptr<analysis::MissCurves> curves = nullptr);

}  // namespace mobalab::experiments
