// The key convolution and its gradients in double precision.
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reference_rows.h"

namespace mobalab::kernels::reference {
namespace {

double sigmoid(double z) {
    return 1.0 / (1.0 + std::exp(-z));
}
double silu(double z) {
    return z * sigmoid(z);
}
double silu_slope(double z) {
    return sigmoid(z) * (1.0 + z * (1.0 - sigmoid(z)));
}

/// z_t = sum over lags l of w_l k_{t-l}, zero before the start; k is one channel with the given stride.
double convolve(const double* k, std::int64_t stride, const double* weight, int width, std::int64_t t) {
    double z = 0.0;
    for (std::int64_t lag = 0; lag < width && lag <= t; ++lag) z += weight[lag] * k[(t - lag) * stride];
    return z;
}

}  // namespace

std::vector<double> key_conv_forward(const Problem& p, const Rows& k, const std::vector<double>& weight, int width,
                                     int threads) {
    const std::int64_t d = p.head_dim;
    std::vector<double> out(static_cast<std::size_t>(p.tokens_k() * p.heads_k * d));
    for (const cpu::Sequence& s : cpu::key_sequences_of(p)) {
        cpu::parallel_for(p.heads_k, threads, [&](std::int64_t head) {
            const std::vector<double> keys = gather(k, s.k_begin, s.keys, head, d, 1);
            for (std::int64_t t = 0; t < s.keys; ++t) {
                for (std::int64_t c = 0; c < d; ++c) {
                    const double z = convolve(keys.data() + c, d, weight.data() + (head * d + c) * width, width, t);
                    out[static_cast<std::size_t>(((s.k_begin + t) * p.heads_k + head) * d + c)] =
                        keys[static_cast<std::size_t>(t * d + c)] + silu(z);
                }
            }
        });
    }
    return out;
}

ConvGradients key_conv_backward(const Problem& p, const Rows& k, const std::vector<double>& weight, int width,
                                const Rows& d_out, int threads) {
    const std::int64_t d = p.head_dim;
    ConvGradients result;
    result.dk.resize(static_cast<std::size_t>(p.tokens_k() * p.heads_k * d));
    result.d_weight.resize(static_cast<std::size_t>(p.heads_k * d * width));
    const std::vector<cpu::Sequence> sequences = cpu::key_sequences_of(p);
    // A task owns the weights of its head.
    cpu::parallel_for(p.heads_k, threads, [&](std::int64_t head) {
        for (const cpu::Sequence& s : sequences) {
            const std::vector<double> keys = gather(k, s.k_begin, s.keys, head, d, 1);
            const std::vector<double> upper = gather(d_out, s.k_begin, s.keys, head, d, 1);
            for (std::int64_t c = 0; c < d; ++c) {
                const double* w = weight.data() + (head * d + c) * width;
                double* dw = result.d_weight.data() + (head * d + c) * width;
                const auto dk = [&](std::int64_t t) -> double& {
                    return result.dk[static_cast<std::size_t>(((s.k_begin + t) * p.heads_k + head) * d + c)];
                };
                for (std::int64_t t = 0; t < s.keys; ++t) dk(t) = upper[static_cast<std::size_t>(t * d + c)];
                for (std::int64_t t = 0; t < s.keys; ++t) {
                    const double z = convolve(keys.data() + c, d, w, width, t);
                    const double dz = upper[static_cast<std::size_t>(t * d + c)] * silu_slope(z);
                    for (std::int64_t lag = 0; lag < width && lag <= t; ++lag) {
                        dk(t - lag) += w[lag] * dz;
                        dw[lag] += dz * keys[static_cast<std::size_t>((t - lag) * d + c)];
                    }
                }
            }
        }
    });
    return result;
}

}  // namespace mobalab::kernels::reference
