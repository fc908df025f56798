#pragma once

/// The models of keys that theory and simulation know. A new one is a file analysis/key_models/<name>.cc that defines
/// `extern const KeyModelDefinition <name>_model`, and its name here.
#define MOBALAB_ANALYSIS_KEY_MODELS(X) X(gaussian) X(gaussian_fixed) X(sphere) X(vector) X(text)
