#pragma once

namespace mobalab::analysis {

/// Two-sided p-value (twice the smaller tail, at most 1) of Fisher's exact test: `first_hits` of `first_size` against
/// `second_hits` of `second_size`, all whole numbers, sizes up to 1e15. Microseconds to milliseconds at any size: where
/// the conditional distribution is wide its tail is summed by the Euler-Maclaurin formula (relative error below 1e-8).
double fisher_two_sided_p(double first_hits, double first_size, double second_hits, double second_size);

}  // namespace mobalab::analysis
