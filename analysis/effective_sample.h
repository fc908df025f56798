#pragma once

namespace mobalab::analysis {

/// Korn and Graubard's effective sample size n / design_effect * (t_{n-1} / t_df)^2 at two-sided level alpha; df <= 0,
/// infinite or at least n - 1: no t penalty. trials > 0, design_effect >= 1, 0 < alpha < 1.
double effective_trials(double trials, double design_effect, double df, double alpha);

}  // namespace mobalab::analysis
