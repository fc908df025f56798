#include "sim/tables/law_curve.h"

#include <algorithm>
#include <boost/math/tools/roots.hpp>
#include <cmath>
#include <cstdint>
#include <utility>

namespace mobalab::sim {
namespace {

constexpr double kTolerance = 2e-10;
/// Beyond this lower logit of the target its upper tail is below 1e-19: no trial sees it.
constexpr double kNoUpperTail = 44.0;
constexpr int kMaxDepth = 24;
constexpr std::size_t kMaxPieces = 400;  // a law noisier than the tolerance must not be split for ever

}  // namespace

double lower_logit(const analysis::LogLaw& at) {
    const double logit = at.lower - at.upper;
    return std::isnan(logit) ? 0.0 : std::clamp(logit, -LawCurve::kMostLogit, LawCurve::kMostLogit);
}

LawCurve::LawCurve(CurveLaw source, CurveLaw target, const std::vector<double>& knots, double mean, double sd,
                   double from, double to)
    : source_(std::move(source)),
      target_(std::move(target)),
      bounded_(std::isfinite(source_.low)),
      from_(from),
      to_(to) {
    const double centre = coordinate(mean);
    const double ahead =
        mean + sd < source_.high ? mean + sd : 0.5 * (mean + source_.high);  // a bounded law may end there
    const double wide = coordinate(ahead) - centre;
    const double step = wide > 1e-6 ? wide : 1e-6;
    const double low = find(from, centre, -step);
    const double high = find(to, centre, step);
    std::vector<double> ends = {low};
    for (const double knot : knots) {
        const double v = !bounded_ || (knot > source_.low && knot < source_.high) ? coordinate(knot) : low;
        if (v > ends.back() && v < high) {
            ends.push_back(v);
        }
    }
    ends.push_back(high);
    constexpr int kFirstPieces = 4;
    for (std::size_t i = 0; i + 1 < ends.size(); ++i) {
        const double width = (ends[i + 1] - ends[i]) / kFirstPieces;
        for (int piece = 0; piece < kFirstPieces; ++piece) {
            fit(ends[i] + piece * width, piece + 1 < kFirstPieces ? ends[i] + (piece + 1) * width : ends[i + 1], 0);
        }
    }
}

/// The coordinate is the score itself, or its log-odds on a bounded support, where an algebraic end becomes a straight
/// line of the logit.
analysis::Score LawCurve::score_at(double v) const {
    if (!bounded_) {
        return {.value = v};
    }
    const double width = source_.high - source_.low;
    const double above = width / (1.0 + std::exp(-v));
    const double below = width / (1.0 + std::exp(v));
    return {above < below ? source_.low + above : source_.high - below, source_.low, above, source_.high, below};
}

double LawCurve::coordinate(double value) const {
    if (!bounded_) {
        return value;
    }
    return std::log((value - source_.low) / (source_.high - value));
}

LawCurve::Logits LawCurve::logits_at(double v) const {
    const analysis::Score score = score_at(v);
    return {lower_logit(source_.law->at(score)), lower_logit(target_.law->at(score))};
}

/// A coordinate just beyond `wanted` of the source's logit, in the direction of `step`.
double LawCurve::find(double wanted, double start, double step) const {
    const auto beyond = [&](double v) {
        const double logit = lower_logit(source_.law->at(score_at(v)));
        return step > 0 ? logit >= wanted : logit <= wanted;
    };
    double inside = start;
    double outside = start + step;
    for (int i = 0; i < 60 && !beyond(outside); ++i) {
        inside = outside;
        step *= 1.6;
        outside += step;
    }
    for (int i = 0; i < 6; ++i) {
        const double middle = 0.5 * (inside + outside);
        (beyond(middle) ? outside : inside) = middle;
    }
    return outside;
}

void LawCurve::fit(double from, double to, int depth) {
    const double centre = 0.5 * (from + to);
    const double half_width = 0.5 * (to - from);
    std::array<double, kPoints> source{};
    std::array<double, kPoints> target{};
    for (std::size_t i = 0; i < kPoints; ++i) {
        const Logits logits = logits_at(centre + half_width * Chebyshev<kPoints>::point(i));
        source[i] = logits.source;
        target[i] = logits.target;
    }
    const Piece piece{centre, half_width, logits_at(to).source, Chebyshev<kPoints>::through(source),
                      Chebyshev<kPoints>::through(target)};
    const auto [least, most] = std::minmax_element(target.begin(), target.end());
    const bool target_matters = *least<kNoUpperTail&& * most> - kMostLogit;
    const bool fits =
        piece.source.tail() <= kTolerance * std::max(1.0, std::abs(source[kPoints / 2])) &&
        (!target_matters || piece.target.tail() <= kTolerance * std::max(1.0, std::abs(target[kPoints / 2])));
    if (fits || depth == kMaxDepth || pieces_.size() >= kMaxPieces) {
        pieces_.push_back(piece);
        return;
    }
    fit(from, centre, depth + 1);
    fit(centre, to, depth + 1);
}

LawCurve::Place LawCurve::place(double source_logit) const {
    const double wanted = std::clamp(source_logit, from_, to_);
    const auto found = std::partition_point(pieces_.begin(), pieces_.end() - 1,
                                            [&](const Piece& piece) { return piece.source_end < wanted; });
    const auto off = [&](double x) { return found->source(x) - wanted; };
    const double low = off(-1.0);
    const double high = off(1.0);
    if (!(low < 0.0)) {
        return {&*found, -1.0};
    }
    if (!(high > 0.0)) {
        return {&*found, 1.0};
    }
    std::uintmax_t steps = 50;
    const auto bracket = boost::math::tools::toms748_solve(off, -1.0, 1.0, low, high,
                                                           boost::math::tools::eps_tolerance<double>(50), steps);
    return {&*found, 0.5 * (bracket.first + bracket.second)};
}

double LawCurve::target_logit(double source_logit) const {
    const Place at = place(source_logit);
    return at.piece->target(at.x);
}

double LawCurve::score(double source_logit) const {
    const Place at = place(source_logit);
    return score_at(at.piece->centre + at.piece->half_width * at.x).value;
}

}  // namespace mobalab::sim
