#pragma once

namespace mobalab::analysis {

/// Probability that the best `slots` of `candidates` independent pairs (X, Y) are not the same set by X as by Y, where
/// each pair is standard bivariate normal with correlation cos(angle): what noise on scores does to a selection.
///
/// A given set A of K is the best by both exactly if every other pair lies below (min_A X, min_A Y), so with F(x, y) =
/// P(X < x, Y < y) and G(x, y) = P(X > x, Y > y)
///
///   P(same) = C(c, K) int int d2/dxdy [G^K] F^(c-K) dx dy
///
/// (joint order statistics: David and Nagaraja, Order Statistics, 2003, 2.2, of pairs). F and G by Owen's T function
/// (Owen, Ann. Math. Statist. 27, 1956). Absolute error below 1e-8 up to 1e5 candidates, 1e-7 up to 1e6. `candidates`
/// need not be whole: a sum over many of them is then an integral. candidates >= 1, slots >= 1, angle in [0, pi / 2]; 0
/// where candidates <= slots.
double top_k_change_probability(double candidates, int slots, double angle);

}  // namespace mobalab::analysis
