#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "experiments/base/regular_file.h"
#include "experiments/trace/trace.h"
#include "tests/experiments/captured.h"

namespace mobalab::experiments {

/// What opening the file and reading all of its first layer says, without the path.
inline std::string answer_to(const std::string& path) {
    try {
        const Trace trace = Trace::open(path);
        const std::int64_t layer = trace.layers()[0];
        for (std::int64_t head = 0; head < trace.info().query_heads; ++head) {
            trace.queries(layer, head);
        }
        for (std::int64_t head = 0; head < trace.info().key_heads; ++head) {
            trace.keys(layer, head);
            if (trace.has_values()) {
                trace.values(layer, head);
            }
        }
        return "accepted";
    } catch (const FileError& error) {
        const std::string line = error.what();
        EXPECT_EQ(line.find('\n'), std::string::npos) << line;
        EXPECT_EQ(line.find(path + ": "), 0U) << line;
        return line.substr(std::min(line.size(), path.size() + 2));
    }
}

/// The same of a file with these bytes.
inline std::string answer(const std::string& bytes) {
    const TemporaryFolder folder;
    spill(folder / "x", bytes);
    return answer_to(folder / "x");
}

}  // namespace mobalab::experiments
