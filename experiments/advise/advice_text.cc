#include "experiments/advise/advice_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace mobalab::experiments {
namespace {

constexpr std::size_t most_named_rivals = 3;
constexpr std::size_t most_named_heads = 12;

std::string with_interval(const Estimate& estimate) {
    return fmt::format("{:.3f} ({:.3f} to {:.3f})", estimate.value, estimate.low, estimate.high);
}

std::string answer_text(const Candidate& candidate) {
    return candidate.heads.empty() ? fmt::format("{:.4g}", candidate.needle_hit) : with_interval(candidate.recall);
}

std::string cost_text(const Candidate& candidate) {
    std::string text = fmt::format("{} keys a query", candidate.setting.keys());
    if (!std::isnan(candidate.milliseconds)) {
        text += fmt::format(" and {:.3g} ms", candidate.milliseconds);
    }
    return text;
}

std::string found_by(const Evidence& evidence, const Candidate& candidate) {
    if (!evidence.measured) {
        return fmt::format("keeps the needle's block with probability {} ({})", answer_text(candidate),
                           candidate.source);
    }
    const std::size_t heads = evidence.heads.size();
    if (heads == 1) {
        return fmt::format("keeps {} of the attention to past blocks of the one head measured", answer_text(candidate));
    }
    return fmt::format("keeps {} of the attention to past blocks on average over {} heads and {:.3f} on the worst",
                       answer_text(candidate), heads, candidate.worst_head);
}

std::string rivals_note(const Evidence& evidence, const std::vector<Rival>& rivals) {
    std::vector<std::string> names;
    for (const Rival& rival : rivals) {
        if (names.size() == most_named_rivals) {
            break;
        }
        const Candidate& candidate = evidence.candidates[rival.candidate];
        const std::string ahead = evidence.measured
                                      ? fmt::format("; the chosen one recalls more on {} heads and less on {}",
                                                    rival.heads_ahead, rival.heads_behind)
                                      : "";
        names.push_back(fmt::format("{} ({}{})", to_string(candidate.setting), answer_text(candidate), ahead));
    }
    const std::size_t more = rivals.size() - names.size();
    const std::string reason =
        evidence.measured ? "cannot be told apart from it on these rows (intervals overlap)" : "finds exactly as much";
    return fmt::format("{}: {}{}", reason, fmt::join(names, "; "), more > 0 ? fmt::format("; and {} more", more) : "");
}

std::string dense_note(const Evidence& evidence, const DenseHeads& dense, double dense_below) {
    if (dense.heads.empty()) {
        return fmt::format(
            "no head's recall is below {} with its whole interval: none needs to stay dense by that rule", dense_below);
    }
    std::vector<std::string> names;
    for (const std::size_t head : dense.heads) {
        if (names.size() == most_named_heads) {
            names.push_back(fmt::format("and {} more", dense.heads.size() - most_named_heads));
            break;
        }
        names.push_back(to_string(evidence.heads[head]));
    }
    return fmt::format(
        "should stay dense, as their recall is below {} with its whole interval: {} of {} heads ({}); the mean recall "
        "is then {} and a query attends to {:.0f} keys on average over heads",
        dense_below, dense.heads.size(), evidence.heads.size(), fmt::join(names, ", "), with_interval(dense.recall),
        dense.keys);
}

std::string reference_note(const Evidence& evidence, const Advice& advice) {
    const double best = evidence.candidates[*advice.chosen].answer().value;
    std::vector<std::string> parts;
    if (advice.best_reference) {
        const Candidate& reference = evidence.candidates[*advice.best_reference];
        parts.push_back(fmt::format("{} {} {}", to_string(reference.setting),
                                    reference.answer().value > best ? "keeps more:" : "keeps", answer_text(reference)));
    }
    if (advice.oracle) {
        const Candidate& oracle = evidence.candidates[*advice.oracle];
        parts.push_back(
            fmt::format("the most that blocks can hold ({}) is {}", to_string(oracle.setting), answer_text(oracle)));
    }
    return parts.empty() ? "" : fmt::format("for comparison, with as many keys: {}", fmt::join(parts, "; "));
}

}  // namespace

std::string to_string(const HeadName& name) {
    return fmt::format("layer {} head {}", name.layer, name.head);
}

std::string to_string(const Budget& budget) {
    switch (budget.kind) {
        case Budget::Kind::keys:
            return fmt::format("at most {} keys a query", budget.amount);
        case Budget::Kind::milliseconds:
            return fmt::format("at most {} ms", budget.amount);
        case Budget::Kind::recall:
            return fmt::format("recall of at least {}", budget.amount);
    }
    return "";
}

std::string recommendation(const Evidence& evidence, const Advice& advice, const Budget& budget) {
    if (advice.chosen) {
        const Candidate& chosen = evidence.candidates[*advice.chosen];
        return fmt::format("Take scorer {}: it {}, for {}.", to_string(chosen.setting), found_by(evidence, chosen),
                           cost_text(chosen));
    }
    if (!advice.nearest) {
        return fmt::format("No setting with {}: none has a known cost.", to_string(budget));
    }
    const Candidate& nearest = evidence.candidates[*advice.nearest];
    return fmt::format(
        "No setting with {}{}; nearest is {}, which {}, for {}.", to_string(budget),
        budget.kind == Budget::Kind::recall && evidence.measured ? " at the low end of its interval" : "",
        to_string(nearest.setting), found_by(evidence, nearest), cost_text(nearest));
}

std::vector<std::string> advice_notes(const Evidence& evidence, const Advice& advice, double dense_below) {
    std::vector<std::string> notes;
    if (advice.chosen) {
        if (!advice.rivals.empty()) {
            notes.push_back(rivals_note(evidence, advice.rivals));
        }
        if (evidence.measured) {
            notes.push_back(dense_note(evidence, advice.dense, dense_below));
        }
        if (const std::string references = reference_note(evidence, advice); !references.empty()) {
            notes.push_back(references);
        }
    }
    notes.insert(notes.end(), evidence.notes.begin(), evidence.notes.end());
    return notes;
}

std::string verdict_on(const HeadLoss& loss, double dense_below) {
    if (loss.recall.high < dense_below) {
        return fmt::format("recall is at most {:.3f}, under {}: should stay dense", loss.recall.high, dense_below);
    }
    if (loss.recall.low < dense_below) {
        return fmt::format("recall may be under {}: {:.3f} to {:.3f}", dense_below, loss.recall.low, loss.recall.high);
    }
    return fmt::format("recall is at least {:.3f}", loss.recall.low);
}

}  // namespace mobalab::experiments
