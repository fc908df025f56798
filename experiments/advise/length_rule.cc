#include "experiments/advise/length_rule.h"

#include <fmt/format.h>

#include <cmath>

#include "analysis/routing_point.h"

namespace mobalab::experiments {
namespace {

double mean_distance_r2(const Evidence& evidence) {
    double sum = 0.0;
    double count = 0.0;
    for (const Candidate& candidate : evidence.candidates) {
        for (const HeadLoss& head : candidate.heads) {
            if (can_be_advised(candidate.setting.scorer) && !std::isnan(head.distance_r2)) {
                sum += head.distance_r2;
                count += 1.0;
            }
        }
    }
    return sum / count;
}

}  // namespace

std::string length_warning(const Evidence& evidence, std::int64_t asked_seq_len) {
    const std::int64_t n = evidence.seq_len;
    if (!evidence.measured || asked_seq_len == n) {
        return "";
    }
    const std::string numbers =
        fmt::format("recall and hits are those measured at N {}, not at N {}", n, asked_seq_len);
    const std::int64_t longest = n * farthest_length_ratio;
    const std::int64_t shortest = (n + farthest_length_ratio - 1) / farthest_length_ratio;
    if (asked_seq_len >= shortest && asked_seq_len <= longest) {
        return fmt::format(
            "{}; twice the length changed the recall of a setting by {} and its hits by {} on average over heads of "
            "SmolLM2-135M, which the intervals do not hold: record a trace of {} tokens",
            numbers, mass_error_of_twice_the_length, hit_error_of_twice_the_length, asked_seq_len);
    }
    const double r2 = mean_distance_r2(evidence);
    if (!(r2 < distance_explains_from)) {
        const std::string explained = std::isnan(r2) ? "how much of the scores distance explains is not known"
                                                     : fmt::format(
                                                           "distance explains {:.2g} of the variance of scores "
                                                           "(under {} would do)",
                                                           r2, distance_explains_from);
        throw analysis::InputError(fmt::format(
            "seq-len = {}: the measurement is of {} tokens and {}, so nothing can be said of lengths beyond "
            "{} to {}; nearest valid: {}, or record a trace of {} tokens",
            asked_seq_len, n, explained, shortest, longest, asked_seq_len > n ? longest : shortest, asked_seq_len));
    }
    return fmt::format(
        "{}; distance explains only {:.2g} of the variance of scores, so blocks compete as equals and the same k finds "
        "{} there: record a trace of {} tokens",
        numbers, r2, asked_seq_len > n ? "less" : "more", asked_seq_len);
}

}  // namespace mobalab::experiments
