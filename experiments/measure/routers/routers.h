#pragma once

/// The reference routers: what choices other than the kernels' would find. A new one is a file
/// experiments/measure/routers/<name>.cc that defines `extern const Router <name>_router`, and its name here.
#define MOBALAB_REFERENCE_ROUTERS(X) X(window) X(cum2) X(oracle)
