#include "experiments/device/element_conversion.h"

#include <Eigen/Core>
#include <algorithm>

namespace mobalab::experiments {
namespace {

template <typename Element>
using Elements = Eigen::Array<Element, Eigen::Dynamic, 1>;

template <typename Element>
void narrow(std::span<const float> values, void* out) {
    const Eigen::Map<const Elements<float>> from(values.data(), std::ssize(values));
    Eigen::Map<Elements<Element>>(static_cast<Element*>(out), std::ssize(values)) = from.template cast<Element>();
}

template <typename Element>
void round_through(std::span<float> values) {
    Eigen::Map<Elements<float>> all(values.data(), std::ssize(values));
    all = all.template cast<Element>().template cast<float>().eval();
}

}  // namespace

void store_as(kernels::DataType dtype, std::span<const float> values, void* out) {
    switch (dtype) {
        case kernels::DataType::fp32:
            std::copy(values.begin(), values.end(), static_cast<float*>(out));
            return;
        case kernels::DataType::bf16:
            return narrow<Eigen::bfloat16>(values, out);
        case kernels::DataType::fp16:
            return narrow<Eigen::half>(values, out);
    }
}

void round_to(kernels::DataType dtype, std::span<float> values) {
    switch (dtype) {
        case kernels::DataType::fp32:
            return;
        case kernels::DataType::bf16:
            return round_through<Eigen::bfloat16>(values);
        case kernels::DataType::fp16:
            return round_through<Eigen::half>(values);
    }
}

}  // namespace mobalab::experiments
