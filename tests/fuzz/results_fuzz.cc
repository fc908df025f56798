// libFuzzer: bytes as a results file. A file is read whole or refused with a FileError; what is read writes the same
// file.

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "experiments/results/results_file.h"

using namespace mobalab::experiments;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<char> bytes(data, data + size);
    try {
        const Results results = decode_results(bytes, "fuzz.h5");
        if (encode_results(results) != bytes) {
            std::abort();
        }
    } catch (const FileError&) {
        return 0;
    }
    return 0;
}
