#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "experiments/advise/evidence.h"

namespace mobalab::experiments {

/// Measured times of the CUDA kernels (tests/perf/kernel_times.py writes them).
///
/// Text: lines "# device: ...", "# commit: ..." and "# command: ..." that say what was measured, then CSV with the
/// columns head_dim, batch, heads, seq_len, block_size, topk, scorer (as `measure --scorer` takes it), keep_first (0,
/// 1), route_ms and forward_ms, milliseconds of one call; forward includes routing. Of one head_dim all rows have one
/// batch and one number of heads. Row order is free.
class KernelTimes {
public:
    /// `name` is for messages. Throws FileError naming it, line and rule.
    static KernelTimes parse(std::string_view text, const std::string& name);
    static KernelTimes read(const std::string& path);
    /// The table that comes with the program: one H100.
    static const KernelTimes& shipped();

    /// Milliseconds of a forward pass; none where the table does not hold the setting, or not up to this length.
    ///
    /// Between measured lengths t(N) / N is interpolated linearly: attention costs in proportion to N k B and routing
    /// to N^2 / B, so t(N) / N is a straight line in N. Nothing is said outside the measured lengths, and nothing
    /// between block sizes or k.
    std::optional<double> milliseconds(const Setting& setting, std::int64_t head_dim, std::int64_t seq_len) const;

    const std::string& name() const { return name_; }
    const std::string& device() const { return device_; }
    const std::string& commit() const { return commit_; }
    const std::string& command() const { return command_; }
    std::size_t rows() const { return rows_; }

    /// "2 sequences of 16 heads", of the rows of this width; empty: it has none.
    std::string shape(std::int64_t head_dim) const;

    /// What it covers, for messages: "d 64, 128; N 4096 to 131072".
    std::string range() const;

private:
    friend class KernelTimesReader;
    using Key = std::tuple<std::int64_t, std::string, bool, std::int64_t, std::int64_t>;
    struct Shape {
        std::int64_t batch;
        std::int64_t heads;
        friend bool operator==(const Shape&, const Shape&) = default;
    };

    std::string name_, device_, commit_, command_;
    std::size_t rows_ = 0;
    std::map<Key, std::map<std::int64_t, double>> by_length_;  ///< forward milliseconds
    std::map<std::int64_t, Shape> shapes_;                     ///< by head_dim
};

/// Fills Candidate::milliseconds for sequences of `seq_len` where the table holds the setting, and notes what the times
/// are of, and how many settings that can be advised have none.
void add_milliseconds(Evidence& evidence, const KernelTimes& times, std::int64_t seq_len);

}  // namespace mobalab::experiments
