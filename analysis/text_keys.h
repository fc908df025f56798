#pragma once

#include <complex>
#include <cstdint>
#include <vector>

#include "analysis/routing_point.h"

namespace mobalab::analysis {

// Keys along a text, as a trained model with RoPE makes them: the model `text`.
//
// Before RoPE the key of token t = 0, 1, ... is kappa m + x_t. m is a fixed unit vector with the same energy in every
// rotation pair, kappa = g / sqrt(1 - g^2) (g = key_mean, so that g is the mean's length over the rms length of a key).
// x_t is a stationary Gaussian process of mean square 1: both coordinates of pair i have variance lambda_i, all
// coordinates the same autocorrelation
//
//     C(l) = (1 - rho) [l = 0] + (rho / J) sum over j < J of exp(-l / 4^j),    4^(J-1) = key_memory,
//
// a mixture of AR(1) processes, which falls about linearly in log l as that of real keys does. The spectrum falls as a
// power of the pair's number, counted from the slowest pair, where models have most of their keys' variance, with the
// power that gives 1 / sum of squared shares = effective_dim.
//
// RoPE (Su et al., arXiv 2104.09864) turns pair i of position t by t w_i, w_i = 10000^(-2 i / head_dim): the key is
// R_t (kappa m + x_t), a query at position p is R_p q. Coordinates 2 i and 2 i + 1 are a pair; as m and x have no
// preferred direction in one, any other layout has the same law.
//
// The query stands at a uniform place of its own block of B tokens, behind the candidates. It is made from its needle,
// token t*, uniform in the candidates: with u = R_(t*-p) x_(t*) / |x_(t*)|, how the query sees the needle's centred
// key,
//
//     q = mu u + sqrt(1 - mu^2) (b m' + sqrt(1 - b^2) v),
//
// m' the part of m orthogonal to u, of length 1, v uniform on the unit sphere orthogonal to u and m: the cosine with
// the needle's centred key is mu = mu_signal, and that of the rest of the query with the rest of the mean b =
// query_mean, whatever the needle. (The cosine with m itself is b sqrt(1 - mu^2) for a needle orthogonal to m, as most
// nearly are. A cosine of exactly b would not exist for every needle.) All other keys have their law given x_(t*):
// neighbours of the needle resemble it.
//
// A sink s > 0 (attention sinks: Xiao et al., arXiv 2309.17453) takes the last, slowest pair, which is not turned then
// and holds nothing else: token 0 has (s, 0) there, every query (1/sqrt(d), 0).
//
// Tensors are [.., head_dim]; pairs are complex numbers below, so that a turn is a product and q.k = Re(conj(q) k).

/// The fields of a point of model text as numbers of the process.
struct TextKeys {
    /// `point` is valid and its model has text_keys.
    explicit TextKeys(const RoutingPoint& point);

    std::int64_t head_dim;
    std::vector<double> frequencies;  ///< w_i of every pair without the sink's, radians a token
    std::vector<double> variances;    ///< lambda_i; they add up to 1/2
    double mean_length;               ///< kappa
    double mean_part;                 ///< m is (mean_part, 0) in every pair
    double white;                     ///< 1 - rho, the share without memory
    double lasting;                   ///< rho / J, the share of each AR(1) process
    std::vector<double> decays;       ///< exp(-1 / 4^j), j = 0 ... J - 1; none for independent keys
    double sink;                      ///< s
    double query_sink;                ///< 1/sqrt(d) where there is a sink, else 0

    std::size_t pairs() const { return frequencies.size(); }
    double autocorrelation(std::int64_t lag) const;  ///< C(|lag|)
};

/// Shares lambda_i of both coordinates of `pairs` pairs, from the fastest to the slowest, that fall as
/// (rank + 1)^(-power) from the slowest on, add up to 1/2 and have 1 / (2 sum of squares) = effective_dim, to 1e-9 of
/// it; all alike for effective_dim 0 or 2 pairs. effective_dim in [2, 2 pairs].
std::vector<double> power_spectrum(std::size_t pairs, double effective_dim);

/// Makes the query before RoPE, [pairs]: `needle` is R_(t*-p) x_(t*), `noise` independent standard normals in every
/// coordinate, mu and b as above. The result has length 1.
std::vector<std::complex<double>> text_query(const TextKeys& keys, const std::vector<std::complex<double>>& needle,
                                             const std::vector<std::complex<double>>& noise, double mu, double b);

}  // namespace mobalab::analysis
