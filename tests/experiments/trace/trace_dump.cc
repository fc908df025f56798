// Prints what the reader sees of a trace, for tests in other languages: a line for each layer, tensor and head with the
// numbers of the head as fp32 in hexadecimal, row by row. Exit code 2 and one line on stderr for what is no trace.

#include <fmt/format.h>

#include <cstdio>
#include <cstring>

#include "experiments/base/regular_file.h"
#include "experiments/trace/trace.h"

namespace {

void print(const char* name, std::int64_t layer, std::int64_t head, const mobalab::experiments::HeadRows& rows) {
    std::string line = fmt::format("{} {} {} {} {} ", name, layer, head, rows.rows, rows.head_dim);
    for (const float value : rows.to_float()) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        line += fmt::format("{:08x}", bits);
    }
    std::puts(line.c_str());
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fputs("usage: trace_dump FILE\n", stderr);
        return 2;
    }
    try {
        const auto trace = mobalab::experiments::Trace::open(arguments[1]);
        for (const std::int64_t layer : trace.layers()) {
            for (std::int64_t head = 0; head < trace.info().query_heads; ++head) {
                print("q", layer, head, trace.queries(layer, head));
            }
            for (std::int64_t head = 0; head < trace.info().key_heads; ++head) {
                print("k", layer, head, trace.keys(layer, head));
                if (trace.has_values()) {
                    print("v", layer, head, trace.values(layer, head));
                }
            }
        }
        return 0;
    } catch (const mobalab::experiments::FileError& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
