// Traces with any bytes: an error, or heads that can be read. HDF5 files are left out: their library is not
// instrumented, it runs in a process of its own, and it is known to crash.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "experiments/base/regular_file.h"
#include "experiments/trace/trace.h"

namespace {

/// A file in memory that has a path while this lives.
class MemoryFile {
public:
    MemoryFile(const std::uint8_t* bytes, std::size_t size) : descriptor_(::memfd_create("trace", 0)) {
        if (descriptor_ < 0 || ::write(descriptor_, bytes, size) != static_cast<ssize_t>(size)) {
            std::abort();
        }
    }
    ~MemoryFile() { ::close(descriptor_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

private:
    int descriptor_;
};

void read_some(const mobalab::experiments::Trace& trace) {
    const std::int64_t layer = trace.layers().back();
    const auto& info = trace.info();
    for (const std::int64_t head : {std::int64_t{0}, info.key_heads - 1}) {
        const auto keys = trace.keys(layer, head).to_float();
        const auto queries = trace.queries(layer, info.query_heads - 1 - head).to_float();
        if (std::ssize(keys) != info.keys * info.head_dim || std::ssize(queries) != info.queries * info.head_dim) {
            std::abort();
        }
        if (trace.has_values() && std::ssize(trace.values(layer, head).to_float()) != info.keys * info.value_dim) {
            std::abort();
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    if (std::string_view(reinterpret_cast<const char*>(bytes), size).starts_with("\x89HDF")) {
        return -1;
    }
    const MemoryFile file(bytes, size);
    try {
        read_some(mobalab::experiments::Trace::open(file.path()));
    } catch (const mobalab::experiments::FileError&) {
    }  // anything else is a finding
    return 0;
}
