#pragma once

#include "sim/simd/philox_tile.h"

namespace mobalab::sim::MOBALAB_SIMD {

/// polar_normal_pair() of sim/streams/transforms.h, operation for operation, cut into seven stages to be run between
/// the last seven rounds of the generator: integer and floating-point units then work at the same time, which
/// out-of-order execution does not reach by itself over stretches this long (tests/perf/NOTES_sim.md).
class PolarStages {
public:
    static constexpr int kStages = 7;

    /// What the sets of lanes of a stage add to or multiply with, loaded once for all of them: left to itself g++ loads
    /// it at every use, and the core has one load of a whole register a cycle.
    struct Constants {
        F32 c[4];
    };

    template <int kStage>
    static MOBALAB_SIM_INLINE Constants constants() {
        if constexpr (kStage == 0) {
            return {{held(0.5F), held(0x1p-32F)}};
        } else if constexpr (kStage == 1) {
            return {{held(-1.5F), held(kLog7), held(kCos6), held(kLog6)}};
        } else if constexpr (kStage == 2) {
            return {{held(kSin7), held(kLog5), held(kRadiusBias), held(kLog4)}};
        } else if constexpr (kStage == 3) {
            return {{held(kCos4), held(kLog3), held(kSin5), held(kLog2)}};
        } else if constexpr (kStage == 4) {
            return {{held(kCos2), held(kLog1), held(kSin3)}};
        } else if constexpr (kStage == 5) {
            return {{held(kCos0), held(kSin1)}};
        } else {
            return {};
        }
    }

    template <int kStage>
    MOBALAB_SIM_INLINE void run(const WordPairs& words, const Constants& constants) {
        const F32(&c)[4] = constants.c;
        if constexpr (kStage == 0) {
            f_ = O::of_int(O::signed_of(words.first)) + c[0];
            x_ = O::of_int(O::signed_of(words.second)) * c[1];
        } else if constexpr (kStage == 1) {
            t_ = O::mantissa(f_) + c[0];
            y_ = x_ * x_;
            p_ = O::fma(O::all(kLog8), t_, c[1]);
            cos_ = O::fma(O::all(kCos8), y_, c[2]);
            p_ = O::fma(p_, t_, c[3]);
        } else if constexpr (kStage == 2) {
            sin_ = O::fma(O::all(kSin9), y_, c[0]);
            p_ = O::fma(p_, t_, c[1]);
            log_ = O::fma(O::exponent(f_), O::all(kLogStep), c[2]);
            p_ = O::fma(p_, t_, c[3]);
        } else if constexpr (kStage == 3) {
            cos_ = O::fma(cos_, y_, c[0]);
            p_ = O::fma(p_, t_, c[1]);
            sin_ = O::fma(sin_, y_, c[2]);
            p_ = O::fma(p_, t_, c[3]);
        } else if constexpr (kStage == 4) {
            cos_ = O::fma(cos_, y_, c[0]);
            p_ = O::fma(p_, t_, c[1]);
            sin_ = O::fma(sin_, y_, c[2]);
            log_ = O::fma(p_, t_, log_);
        } else if constexpr (kStage == 5) {
            root_ = O::sqrt(log_);
            cos_ = O::fma(cos_, y_, c[0]);
            sin_ = O::fma(sin_, y_, c[1]);
        } else {
            static_assert(kStage == kStages - 1);
            sin_ = sin_ * x_;
            root_ = flip_sign(root_, O::bits(f_) & 0x80000000U);
        }
    }

    /// After the last stage.
    MOBALAB_SIM_INLINE PolarPairOf<F32> result() const { return {log_, root_, cos_, sin_}; }

private:
    using O = Ops<F32>;

    static MOBALAB_SIM_INLINE F32 held(float x) {
        F32 all = O::all(x);
#if defined(__AVX512F__)
        asm("" : "+v"(all));  // in a register from here on
#endif
        return all;
    }

    F32 f_, x_, y_, t_, p_, log_, root_, cos_, sin_;
};

}  // namespace mobalab::sim::MOBALAB_SIMD
