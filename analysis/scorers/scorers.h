#pragma once

/// The scorers that theory and simulation know, by the names of kernels/scorers/. A new one is a file
/// analysis/scorers/<name>.cc that defines `extern const ScorerDefinition <name>_scorer`, and its name here.
#define MOBALAB_ANALYSIS_SCORERS(X) X(mean) X(quest) X(max) X(submean) X(random)
