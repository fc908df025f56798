// The conformance bodies on the two CPU backends.
#include "tests/kernels/conformance/moba_conformance.h"

namespace mobalab::kernels::conformance {
namespace {

std::vector<Target> targets() {
    const auto memory = std::make_shared<HostMemory>();
    std::vector<Target> result;
    for (const auto& [backend, backend_name] :
         {std::pair(Backend::cpu, "cpu"), std::pair(Backend::cpu_reference, "cpu_reference")}) {
        for (const auto& [dtype, dtype_name] : {std::pair(DataType::fp32, "fp32"), std::pair(DataType::bf16, "bf16"),
                                                std::pair(DataType::fp16, "fp16")}) {
            // The reference widens its input and rounds its output: one 16-bit type shows both.
            if (backend == Backend::cpu_reference && dtype == DataType::bf16) continue;
            Target target;
            target.name = std::string(backend_name) + "_" + dtype_name;
            target.backend = backend;
            target.dtype = dtype;
            target.memory = memory;
            target.any_shape = true;
            result.push_back(target);
        }
    }
    return result;
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Cpu, MobaConformance, testing::ValuesIn(targets()), target_name);

}  // namespace mobalab::kernels::conformance
