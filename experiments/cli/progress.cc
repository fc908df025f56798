#include "experiments/cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "experiments/base/this_rank.h"

namespace mobalab::experiments {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

double in_seconds(ProgressDisplay::Clock::duration time) {
    return duration<double>(time).count();
}

std::string json_line(double fraction, const std::string& text, double elapsed, std::optional<double> left,
                      const std::optional<PointState>& state) {
    nlohmann::ordered_json line = {
        {"progress", fraction}, {"text", text}, {"seconds", elapsed}, {"seconds_left", nullptr}};
    if (left) {
        line["seconds_left"] = *left;
    }
    if (state) {
        line["point"] = state->point;
        line["trials"] = state->trials;
        line["misses"] = state->misses ? nlohmann::ordered_json(*state->misses) : nullptr;
        line["finished"] = state->finished;
    }
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

ProgressDisplay::ProgressDisplay(Terminal& terminal, std::string title, std::function<Clock::time_point()> now)
    : terminal_(terminal), title_(std::move(title)), now_(std::move(now)), start_(now_()), last_shown_(start_) {
    if (this_rank().ranks > 1) {
        title_ += fmt::format(" on {} ranks", this_rank().ranks);
    }
}

ProgressDisplay::~ProgressDisplay() {
    if (shown_width_ > 0) {
        terminal_.err << '\r' << std::string(shown_width_, ' ') << '\r' << std::flush;
    }
}

bool ProgressDisplay::is_early(Clock::time_point now, const std::optional<PointState>& state) const {
    if (terminal_.json_progress && state && state->finished) {
        return false;
    }
    const Clock::duration pause = terminal_.json_progress ? Clock::duration(milliseconds(100))
                                  : terminal_.err_is_tty  ? Clock::duration(milliseconds(200))
                                                          : Clock::duration(seconds(5));
    return now - last_shown_ < pause;
}

void ProgressDisplay::update(double fraction, const std::string& text, const std::optional<PointState>& state) {
    const Clock::time_point now = now_();
    if (is_early(now, state)) {
        return;
    }
    last_shown_ = now;
    const double elapsed = in_seconds(now - start_);
    const double here = fraction - first_fraction_;
    const std::optional<double> left = here > 0.0 ? std::optional(elapsed * (1.0 - fraction) / here) : std::nullopt;
    const double done = std::clamp(fraction, 0.0, 1.0);
    if (terminal_.json_progress) {
        show(json_line(done, text, elapsed, left, state));
        return;
    }
    const std::string eta = left ? "about " + duration_text(*left) + " left" : "time left unknown";
    show(fmt::format("{}: {:3.0f} %  {}  {}, {}", title_, 100.0 * done, text, duration_text(elapsed), eta));
}

void ProgressDisplay::show(const std::string& line) {
    if (terminal_.json_progress || !terminal_.err_is_tty) {
        terminal_.err << line << std::endl;
        return;
    }
    terminal_.err << '\r' << line << std::string(shown_width_ > line.size() ? shown_width_ - line.size() : 0, ' ')
                  << std::flush;
    shown_width_ = line.size();
}

std::string duration_text(double seconds) {
    const auto whole = std::llround(std::clamp(seconds, 0.0, 1e15));
    if (whole < 60) {
        return fmt::format("{} s", whole);
    }
    if (whole < 3600) {
        return fmt::format("{} min {} s", whole / 60, whole % 60);
    }
    return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace mobalab::experiments
