#include "experiments/measure/cuda/score_statistics.h"

#include <cmath>

#include "experiments/measure/cuda/by_head_dim.h"
#include "experiments/measure/cuda/ranked.cuh"

namespace mobalab::experiments::cuda {
namespace {

constexpr int least_candidates = 3;
constexpr int distance_threads = 128;

/// The candidates of one row.
struct Candidates {
    const float* scores;
    float first_extra;  // on the score of block 0
    int count;

    __device__ __forceinline__ float score(int block) const {
        return block == 0 ? scores[0] + first_extra : scores[block];
    }
};

__device__ __forceinline__ Candidates candidates_of(const ScoreStatisticsArgs& args, int row) {
    return {args.scores + static_cast<std::int64_t>(row) * args.blocks,
            args.score_is_mass ? args.first_key_mass[row] : 0.0F, (args.window.position + row) / args.block_size};
}

struct Moments {
    double mean, squares;  // squares: sum of (S - mean)^2
};

/// Of all candidates but one (-1: of all). Sums are taken around one of the scores: relative errors stay below
/// count * 2^-52, and equal scores have no spread at all.
__device__ __forceinline__ Moments moments(const Candidates& row, int left_out, int lane) {
    const double base = row.score(left_out == 0 ? 1 : 0);
    double sum = 0.0, squares = 0.0;
    for (int block = lane; block < row.count; block += 32) {
        if (block == left_out) continue;
        const double x = row.score(block) - base;
        sum += x;
        squares += x * x;
    }
    sum = warp_sum(sum);
    squares = warp_sum(squares);
    const int count = row.count - (left_out >= 0 ? 1 : 0);
    return {base + sum / count, fmax(squares - sum * sum / count, 0.0)};
}

/// The candidate farthest from the mean.
__device__ __forceinline__ int farthest(const Candidates& row, double mean, int lane) {
    Ranked best = 0;
    for (int block = lane; block < row.count; block += 32) {
        const auto tie = static_cast<std::uint32_t>(block);
        best = max(best, ranked(static_cast<float>(fabs(row.score(block) - mean)), tie));
    }
    return static_cast<int>(ranked_tie(warp_max(best)));
}

/// Scores standardised by the mean and the deviation of the row's other candidates. For all but the farthest those
/// follow from the moments of all: what is taken away is then at most three quarters of the squares. Spreads of less
/// than 1e-13 of the variance of all count as 0, as on the CPU.
struct Standardised {
    Moments all, but_farthest;
    int farthest, count;

    __device__ __forceinline__ double operator()(const Candidates& row, int block) const {
        const double score = row.score(block), others = count - 1;
        Moments rest = but_farthest;
        if (block != farthest) {
            const double apart = score - all.mean;
            rest = {all.mean - apart / others, all.squares - apart * apart * count / others};
        }
        const double variance = rest.squares / others;
        return variance > 1e-13 * all.squares / count ? (score - rest.mean) / sqrt(variance) : NAN;
    }
};

__global__ void __launch_bounds__(row_threads)
    score_statistics_kernel(const __grid_constant__ ScoreStatisticsArgs args) {
    const int number = row_of_warp(), lane = lane_of_thread();
    if (number >= args.window.rows) return;
    const Candidates row = candidates_of(args, number);
    double mean = NAN, deviation = NAN, needle = NAN, mass_score = NAN, mass_squared = NAN;
    const Moments all = row.count >= least_candidates ? moments(row, -1, lane) : Moments{NAN, 0.0};
    if (all.squares > 0.0) {
        mean = all.mean;
        deviation = sqrt(all.squares / row.count);
        Standardised standardised{all, {}, farthest(row, mean, lane), row.count};
        standardised.but_farthest = moments(row, standardised.farthest, lane);
        const int needle_key = args.needle_key[number];
        if (needle_key >= 0) needle = standardised(row, needle_key / args.block_size);
        const float* const mass = args.mass + static_cast<std::int64_t>(number) * args.blocks;
        double weights = 0.0, sum = 0.0, squares = 0.0;
        for (int block = lane; block < row.count; block += 32) {
            const double s = standardised(row, block);
            if (isnan(s)) continue;
            const double weight = mass[block] + (block == 0 ? args.first_key_mass[number] : 0.0F);
            weights += weight;
            sum += weight * s;
            squares += weight * s * s;
        }
        weights = warp_sum(weights);
        sum = warp_sum(sum);
        squares = warp_sum(squares);
        if (weights > 0.0) {
            mass_score = sum / weights;
            mass_squared = squares / weights;
        }
    }
    if (lane == 0) {
        args.mean[number] = mean;
        args.deviation[number] = static_cast<float>(deviation);
        args.needle_score[number] = static_cast<float>(needle);
        args.mass_score[number] = static_cast<float>(mass_score);
        args.mass_score_squared[number] = static_cast<float>(mass_squared);
    }
}

/// A thread a distance, a row of thread blocks a piece of the rows.
__global__ void __launch_bounds__(distance_threads)
    distance_partial_kernel(const __grid_constant__ DistanceSumArgs args) {
    const int distance = static_cast<int>(blockIdx.x) * distance_threads + static_cast<int>(threadIdx.x);
    if (distance >= args.distances) return;
    const int begin = static_cast<int>(blockIdx.y) * distance_piece_rows;
    const int end = min(begin + distance_piece_rows, args.of.window.rows);
    double sum = 0.0;
    for (int number = begin; number < end; ++number) {
        const Candidates row = candidates_of(args.of, number);
        const double mean = args.of.mean[number];
        if (isnan(mean) || distance == 0 || distance > row.count) continue;
        sum += (row.score(row.count - distance) - mean) / static_cast<double>(args.of.deviation[number]);
    }
    args.partial[static_cast<std::int64_t>(blockIdx.y) * args.distances + distance] = sum;
}

__global__ void __launch_bounds__(distance_threads) distance_sum_kernel(const __grid_constant__ DistanceSumArgs args) {
    const int distance = static_cast<int>(blockIdx.x) * distance_threads + static_cast<int>(threadIdx.x);
    if (distance >= args.distances) return;
    double sum = args.sums[distance];
    const int count = distance_pieces(args.of.window.rows);
    for (int piece = 0; piece < count; ++piece) {
        sum += args.partial[static_cast<std::int64_t>(piece) * args.distances + distance];
    }
    args.sums[distance] = sum;
}

}  // namespace

cudaError_t launch_score_statistics(const ScoreStatisticsArgs& args, cudaStream_t stream) {
    if (args.window.rows == 0) return cudaSuccess;
    return launch(score_statistics_kernel, dim3(pieces(args.window.rows, rows_a_block)), row_threads, 0, stream, args);
}

cudaError_t launch_distance_sums(const DistanceSumArgs& args, cudaStream_t stream) {
    if (args.of.window.rows == 0 || args.distances == 0) return cudaSuccess;
    const unsigned across = pieces(args.distances, distance_threads);
    const auto rows = static_cast<unsigned>(distance_pieces(args.of.window.rows));
    const cudaError_t error = launch(distance_partial_kernel, dim3(across, rows), distance_threads, 0, stream, args);
    if (error != cudaSuccess) return error;
    return launch(distance_sum_kernel, dim3(across), distance_threads, 0, stream, args);
}

}  // namespace mobalab::experiments::cuda
