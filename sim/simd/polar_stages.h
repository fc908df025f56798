#pragma once

#include "sim/simd/philox_tile.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// polar_normal_pair() of sim/transforms.h, operation for operation, cut into seven stages to be run between the last
/// seven rounds of the generator: integer and floating-point units then work at the same time, which out-of-order
/// execution does not reach by itself over stretches this long (tests/perf/NOTES_sim.md).
class PolarStages {
public:
    template <int kStage>
    MOBALAB_SIM_INLINE void run(const WordPairs& words) {
        if constexpr (kStage == 0) {
            f_ = O::of_int(O::signed_of(words.first)) + 0.5F;
            x_ = half_turn<F32>(words.second);
        } else if constexpr (kStage == 1) {
            t_ = O::mantissa(f_) - 1.5F;
            y_ = x_ * x_;
            p_ = O::fma(O::all(0.01259990062F), t_, O::all(-0.02048778353F));
            cos_ = O::fma(O::all(0.2196967987F), y_, O::all(-1.331880163F));
            p_ = O::fma(p_, t_, O::all(0.02852820861F));
        } else if constexpr (kStage == 2) {
            sin_ = O::fma(O::all(0.07765940834F), y_, O::all(-0.59829216F));
            p_ = O::fma(p_, t_, O::all(-0.05193460443F));
            log_ = O::fma(O::exponent(f_), O::all(-1.3862943611198906F), O::all(kRadiusBias));
            p_ = O::fma(p_, t_, O::all(0.09884243513F));
        } else if constexpr (kStage == 3) {
            cos_ = O::fma(cos_, y_, O::all(4.058411915F));
            p_ = O::fma(p_, t_, O::all(-0.19758351F));
            sin_ = O::fma(sin_, y_, O::all(2.55007766F));
            p_ = O::fma(p_, t_, O::all(0.4444415766F));
        } else if constexpr (kStage == 4) {
            cos_ = O::fma(cos_, y_, O::all(-4.934792859F));
            p_ = O::fma(p_, t_, O::all(-1.333332332F));
            sin_ = O::fma(sin_, y_, O::all(-5.16771009F));
            log_ = O::fma(p_, t_, log_);
        } else if constexpr (kStage == 5) {
            root_ = O::sqrt(log_);
            cos_ = O::fma(cos_, y_, O::all(0.9999999995F));
            sin_ = O::fma(sin_, y_, O::all(3.14159264F));
        } else {
            static_assert(kStage == 6);
            sin_ = sin_ * x_;
            root_ = flip_sign(root_, O::bits(f_) & 0x80000000U);
        }
    }

    /// After stage 6.
    MOBALAB_SIM_INLINE PolarPairOf<F32> result() const { return {log_, root_, cos_, sin_}; }

private:
    using O = Ops<F32>;
    F32 f_, x_, y_, t_, p_, log_, root_, cos_, sin_;
};

}  // namespace mobalab::sim::MOBALAB_SIMD
