#pragma once

#include <cstdint>

#include "kernels/cuda/portable/routing/route_shape.cuh"

namespace mobalab::kernels::cuda::portable {

/// The 16 query rows of a warp as A operands of mma.m16n8k16, straight from the tensor: a lane's words of a row are 4
/// bytes in each 16, which its quad shares. Kept in registers, or read again for every product where these are too few.
template <typename Shape>
class QueryFragments {
public:
    /// row0: the warp's first row, may be past the sequence.
    __device__ __forceinline__ void load(const RouteParams& p, const RouteItem<Shape>& item, int row0, int lane) {
        chunks_ = p.chunks;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = row0 + lane / 4 + 8 * h;
            exists_[h] = row < item.sequence.sq;
            rows_[h] = p.queries.row(item.head, item.sequence.q.from(exists_[h] ? row : 0)) + lane % 4 * 4;
        }
        if constexpr (Shape::queries_stay) {
#pragma unroll
            for (int step = 0; step < Shape::steps; ++step) read(step, kept_[step]);
        }
    }

    /// Elements [16 step, 16 step + 16) of the rows; zero where the tensor has none.
    __device__ __forceinline__ void get(int step, std::uint32_t (&a)[4]) const {
        if constexpr (Shape::queries_stay) {
#pragma unroll
            for (int i = 0; i < 4; ++i) a[i] = kept_[step][i];
        } else {
            read(step, a);
        }
    }

private:
    __device__ __forceinline__ void read(int step, std::uint32_t (&a)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int row = i % 2, chunk = 2 * step + i / 2;
            a[i] = 0;
            // volatile: or the compiler keeps them all the same
            if (exists_[row] && chunk < chunks_) {
                asm volatile("ld.global.nc.b32 %0, [%1];" : "=r"(a[i]) : "l"(rows_[row] + chunk * 16));
            }
        }
    }

    std::uint32_t kept_[Shape::queries_stay ? Shape::steps : 1][4];
    const char* rows_[2];
    bool exists_[2];
    int chunks_;
};

}  // namespace mobalab::kernels::cuda::portable
