#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <numbers>

namespace mobalab::sim {

/// Interpolation on [-1, 1] at the Chebyshev points of the first kind (Trefethen, "Approximation Theory and
/// Approximation Practice", chapters 2 and 3).
template <std::size_t kPoints>
struct Chebyshev {
    std::array<double, kPoints> c{};  ///< sum of c[j] T_j

    static double point(std::size_t i) {
        return std::cos(std::numbers::pi * (static_cast<double>(i) + 0.5) / static_cast<double>(kPoints));
    }

    /// Through values[i] at point(i).
    static Chebyshev through(const std::array<double, kPoints>& values) {
        Chebyshev result;
        for (std::size_t j = 0; j < kPoints; ++j) {
            double sum = 0.0;
            for (std::size_t i = 0; i < kPoints; ++i) {
                const double angle = std::numbers::pi * (static_cast<double>(i) + 0.5) / static_cast<double>(kPoints);
                sum += values[i] * std::cos(static_cast<double>(j) * angle);
            }
            result.c[j] = (j == 0 ? 1.0 : 2.0) * sum / static_cast<double>(kPoints);
        }
        return result;
    }

    /// Clenshaw's recurrence.
    double operator()(double x) const {
        double b1 = 0.0;
        double b2 = 0.0;
        for (std::size_t j = kPoints - 1; j > 0; --j) {
            const double b = c[j] + 2.0 * x * b1 - b2;
            b2 = b1;
            b1 = b;
        }
        return c[0] + x * b1 - b2;
    }

    /// Size of the last coefficients: about the error of the interpolation.
    double tail() const { return std::abs(c[kPoints - 1]) + std::abs(c[kPoints - 2]) + std::abs(c[kPoints - 3]); }

    /// The same polynomial by powers of x.
    std::array<double, kPoints> powers() const {
        std::array<double, kPoints> result{};
        std::array<double, kPoints> before{};  // T_(j-1)
        std::array<double, kPoints> now{};     // T_j
        now[0] = 1.0;
        for (std::size_t j = 0; j < kPoints; ++j) {
            std::array<double, kPoints> next{};
            for (std::size_t k = 0; k < kPoints; ++k) {
                result[k] += c[j] * now[k];
                const double shifted = k == 0 ? 0.0 : now[k - 1];
                next[k] = j == 0 ? shifted : 2.0 * shifted - before[k];
            }
            before = now;
            now = next;
        }
        return result;
    }
};

}  // namespace mobalab::sim
