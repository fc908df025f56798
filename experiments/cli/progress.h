#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "experiments/base/terminal.h"

namespace mobalab::experiments {

/// Where a point of a simulation is, for programs that watch it.
struct PointState {
    std::int64_t point;  ///< row of the table
    std::int64_t trials;
    std::optional<std::int64_t> misses;  ///< none where the method counts none
    bool finished;
};

/// Progress of a long command on stderr: one redrawn line on a terminal, a plain line every few seconds elsewhere.
/// Nothing is written in the first moments, so short commands stay silent.
///
/// For a program (Terminal::json_progress) a line is a JSON object, ten a second beside those of finished points:
/// `progress` in [0, 1], `text`, `seconds` since the start, `seconds_left` (null: unknown), and where the update says
/// it `point`, `trials`, `misses` (null: none are counted), `finished`. Every finished point has one.
class ProgressDisplay {
public:
    using Clock = std::chrono::steady_clock;

    /// `now` tells the time: another than the clock's for tests.
    ProgressDisplay(Terminal& terminal, std::string title, std::function<Clock::time_point()> now = Clock::now);
    ~ProgressDisplay();  ///< clears the line
    ProgressDisplay(const ProgressDisplay&) = delete;
    ProgressDisplay& operator=(const ProgressDisplay&) = delete;

    /// `fraction` of the whole work done, in [0, 1]; `text` says where it is ("point 3 of 12, 1200 misses").
    void update(double fraction, const std::string& text, const std::optional<PointState>& state = {});

    /// Work already done before this run: left out of the speed the ETA is computed from.
    void start_at(double fraction) { first_fraction_ = fraction; }

private:
    bool is_early(Clock::time_point now, const std::optional<PointState>& state) const;
    void show(const std::string& line);

    Terminal& terminal_;
    std::string title_;
    std::function<Clock::time_point()> now_;
    Clock::time_point start_;
    Clock::time_point last_shown_;
    double first_fraction_ = 0.0;
    std::size_t shown_width_ = 0;
};

/// "12 s", "3 min 20 s", "2 h 5 min".
std::string duration_text(double seconds);

}  // namespace mobalab::experiments
