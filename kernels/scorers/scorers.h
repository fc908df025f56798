#pragma once

/// The scorers, in the order of their numbers in the C interface (append, never reorder). A new one is a file
/// kernels/scorers/<name>.cc that defines `extern const ScorerDefinition <name>_scorer`, and its name here.
#define MOBALAB_SCORERS(X) X(mean) X(quest) X(max) X(submean) X(random)
