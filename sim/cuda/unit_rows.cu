#include "sim/cuda/unit_rows.h"

#include "sim/cuda/element.cuh"
#include "sim/cuda/normal_quad.cuh"

namespace mobalab::sim::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads =
    4;  ///< thread t of a row has the lanes 4 t .. 4 t + 3 of its squares, so quads t, t + 4, ...
static_assert(4 * kRowThreads == kUnitRowLanes);

/// Sum of the 16 lanes in the order of sim/streams/unit_rows.h; lanes l and l + 8 are two threads apart, l and l + 4
/// one.
__device__ float sum_of_lanes(float (&lanes)[4]) {
    for (int apart = kRowThreads / 2; apart > 0; apart /= 2) {
        for (float& lane : lanes) {
            lane += __shfl_xor_sync(0xffffffffU, lane, apart);
        }
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

/// Normals are drawn twice, once for the length and once for the row: cheaper than keeping a row of any length.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(Element* out, std::int64_t count, int head_dim, std::uint64_t seed, std::uint64_t subsequence,
                std::int64_t first, const std::int64_t* numbers) {
    const std::int64_t place = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kRowThreads;
    const std::int64_t row = place < count ? place : count - 1;  // every thread of a warp takes part in the sums
    const std::int64_t number = numbers != nullptr ? numbers[row] : first + row;
    const int quads = head_dim / 4;
    const auto first_draw = static_cast<std::uint64_t>(number) * static_cast<std::uint64_t>(quads);
    const int mine = static_cast<int>(threadIdx.x) % kRowThreads;
    float lanes[4] = {};
    for (int q = mine; q < quads; q += kRowThreads) {
        const NormalQuad quad(seed, subsequence, first_draw + static_cast<std::uint64_t>(q));
        for (int j = 0; j < 4; ++j) {
            lanes[j] += quad.z[j] * quad.z[j];
        }
    }
    const float scale = 1.0F / std::sqrt(sum_of_lanes(lanes));
    if (place >= count) {
        return;
    }
    struct alignas(4 * sizeof(Element)) Four {
        Element x[4];
    };
    Four* fours = reinterpret_cast<Four*>(out + row * head_dim);
    for (int q = mine; q < quads; q += kRowThreads) {
        const NormalQuad quad(seed, subsequence, first_draw + static_cast<std::uint64_t>(q));
        Four four;
        for (int j = 0; j < 4; ++j) {
            four.x[j] = element_of<Element>(quad.z[j] * scale);
        }
        fours[q] = four;
    }
}

template <class Element>
cudaError_t launch(const UnitRows& rows, std::int64_t first, const std::int64_t* numbers, Element* out,
                   std::int64_t count, cudaStream_t stream) {
    if (rows.head_dim % 4 != 0) {
        return cudaErrorInvalidValue;
    }
    if (count <= 0) {
        return cudaSuccess;
    }
    const std::int64_t blocks = (count * kRowThreads + kThreads - 1) / kThreads;
    fill_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
        out, count, static_cast<int>(rows.head_dim), rows.key.as_curand_seed(), rows.subsequence, first, numbers);
    return cudaGetLastError();
}

}  // namespace

template <class Element>
cudaError_t fill_unit_rows(const UnitRows& rows, std::int64_t first, Element* out, std::int64_t count,
                           cudaStream_t stream) {
    return launch(rows, first, nullptr, out, count, stream);
}

template <class Element>
cudaError_t fill_listed_unit_rows(const UnitRows& rows, const std::int64_t* numbers, Element* out, std::int64_t count,
                                  cudaStream_t stream) {
    return launch(rows, 0, numbers, out, count, stream);
}

template cudaError_t fill_unit_rows(const UnitRows&, std::int64_t, float*, std::int64_t, cudaStream_t);
template cudaError_t fill_unit_rows(const UnitRows&, std::int64_t, __nv_bfloat16*, std::int64_t, cudaStream_t);
template cudaError_t fill_unit_rows(const UnitRows&, std::int64_t, __half*, std::int64_t, cudaStream_t);
template cudaError_t fill_listed_unit_rows(const UnitRows&, const std::int64_t*, float*, std::int64_t, cudaStream_t);

}  // namespace mobalab::sim::cuda
