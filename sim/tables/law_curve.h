#pragma once

#include <memory>
#include <vector>

#include "analysis/score_law.h"
#include "sim/tables/chebyshev.h"

namespace mobalab::sim {

/// A law of scores with its support (infinite for normal laws) and the points where its density is rough.
struct CurveLaw {
    std::shared_ptr<const analysis::ScoreLaw> law;
    double low;
    double high;
};

/// log(P(score <= s) / P(score > s)): grows from -inf to +inf, and keeps the digits of both tails.
double lower_logit(const analysis::LogLaw& at);

/// Two laws seen along the same scores: where the first (`source`) has a given lower tail, what is the score, and what
/// is the lower tail of the second (`target`)? With the source's tail uniform this is how a trial is drawn without
/// drawing scores; the pair of tails is what signal detection calls the ROC curve.
///
/// Both logits are kept as Chebyshev pieces over the score, split until their tails are below 2e-10 (or, at the end of
/// a target's bounded support, until the piece is negligible); that is the relative error of the tails that at()
/// gives.
class LawCurve {
public:
    /// Over source logits [from, to]; `knots` ascending; `mean` and `sd` of the source say where to look first.
    LawCurve(CurveLaw source, CurveLaw target, const std::vector<double>& knots, double mean, double sd, double from,
             double to);

    /// Lower logit of the target at the score where the source's is `source_logit` (clamped to [from, to]), within
    /// [-kMostLogit, kMostLogit].
    double target_logit(double source_logit) const;
    double score(double source_logit) const;

    static constexpr double kMostLogit = 740.0;

private:
    static constexpr std::size_t kPoints = 17;

    struct Logits {
        double source;
        double target;
    };
    struct Piece {
        double centre, half_width;  ///< in the coordinate of the score
        double source_end;          ///< source logit at the upper end
        Chebyshev<kPoints> source, target;
    };
    struct Place {
        const Piece* piece;
        double x;
    };

    analysis::Score score_at(double v) const;
    double coordinate(double value) const;
    Logits logits_at(double v) const;
    double find(double wanted, double start, double step) const;
    void fit(double from, double to, int depth);
    Place place(double source_logit) const;

    CurveLaw source_;
    CurveLaw target_;
    bool bounded_;
    double from_, to_;
    std::vector<Piece> pieces_;
};

}  // namespace mobalab::sim
