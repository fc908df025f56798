#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "sim/streams/transforms.h"

namespace mobalab::sim {

/// Builds one query that has given affinities to the m keys of a cluster, K [m, d], unit rows, m < d:
///
///     q = K^T w + s (v - K^T p),   G = K K^T,  w = G^-1 mu,  p = G^-1 K v,
///     mu = (mu_signal, mu_cluster, ..., mu_cluster),  s = sqrt(1 - mu^T w) / |v - K^T p|.
///
/// So |q| = 1 and K q = mu, which needs mu^T w <= 1. In double precision and in one order for every machine (plain
/// products and sums; build without contraction), on a team of threads: Team is HostTeam, or its twin on a GPU.
/// `memory`: memory_size() doubles of the team's own.
template <class Team>
class NeedleQueryBuilder {
public:
    MOBALAB_SIM_INLINE NeedleQueryBuilder(Team team, std::int64_t cluster_size, std::int64_t head_dim, double* memory)
        : team_(team),
          m_(cluster_size),
          d_(head_dim),
          gram_(memory),
          weights_(memory + cluster_size * cluster_size),
          shares_(weights_ + cluster_size),
          query_(shares_ + cluster_size) {}

    static MOBALAB_SIM_INLINE std::int64_t memory_size(std::int64_t cluster_size, std::int64_t head_dim) {
        return cluster_size * (cluster_size + 2) + head_dim;
    }

    /// Takes the cluster and the affinities; the squared length mu^T w they need, +inf where the keys are dependent.
    MOBALAB_SIM_INLINE double fit(const float* keys, double mu_signal, double mu_cluster) {
        keys_ = keys;
        for (std::int64_t i = 0; i < m_; ++i) {
            for (std::int64_t j = 0; j <= i; ++j) {
                const float* a = keys_ + i * d_;
                const float* b = keys_ + j * d_;
                const double affinity = team_.sum(
                    d_, [=](std::int64_t e) { return static_cast<double>(a[e]) * static_cast<double>(b[e]); });
                if (team_.leads()) {
                    gram_[i * m_ + j] = affinity;
                }
            }
        }
        double needed = 0.0;
        if (team_.leads()) {
            needed = factor() ? weigh(mu_signal, mu_cluster) : std::numeric_limits<double>::infinity();
        }
        needed_ = team_.from_leader(needed);
        return needed_;
    }

    /// After fit(): the query with noise v, [d]; `out(e, q_e)` gets each coordinate once.
    template <class Out>
    MOBALAB_SIM_INLINE void build(const float* noise, Out out) {
        for (std::int64_t i = 0; i < m_; ++i) {
            const float* key = keys_ + i * d_;
            const double affinity = team_.sum(
                d_, [=](std::int64_t e) { return static_cast<double>(key[e]) * static_cast<double>(noise[e]); });
            if (team_.leads()) {
                shares_[i] = affinity;
            }
        }
        if (team_.leads()) {
            solve(shares_);
        }
        team_.sync();
        team_.each(d_, [=, this](std::int64_t e) { query_[e] = static_cast<double>(noise[e]); });
        for (std::int64_t i = 0; i < m_; ++i) {
            add(-shares_[i], keys_ + i * d_);
        }
        const double length = std::sqrt(team_.sum(d_, [this](std::int64_t e) { return query_[e] * query_[e]; }));
        const double left = 1.0 - needed_;
        const double scale = left > 0.0 ? std::sqrt(left) / length : 0.0;
        team_.each(d_, [=, this](std::int64_t e) { query_[e] *= scale; });
        for (std::int64_t i = 0; i < m_; ++i) {
            add(weights_[i], keys_ + i * d_);
        }
        team_.each(d_, [&](std::int64_t e) { out(e, static_cast<float>(query_[e])); });
    }

private:
    /// G = L L^T by Cholesky, L in the lower triangle of gram_; false where it is not positive definite.
    MOBALAB_SIM_INLINE bool factor() {
        for (std::int64_t j = 0; j < m_; ++j) {
            double pivot = gram_[j * m_ + j];
            for (std::int64_t k = 0; k < j; ++k) {
                pivot -= gram_[j * m_ + k] * gram_[j * m_ + k];
            }
            if (!(pivot > 0.0)) {
                return false;
            }
            pivot = std::sqrt(pivot);
            gram_[j * m_ + j] = pivot;
            for (std::int64_t i = j + 1; i < m_; ++i) {
                double below = gram_[i * m_ + j];
                for (std::int64_t k = 0; k < j; ++k) {
                    below -= gram_[i * m_ + k] * gram_[j * m_ + k];
                }
                gram_[i * m_ + j] = below / pivot;
            }
        }
        return true;
    }

    /// x = G^-1 x.
    MOBALAB_SIM_INLINE void solve(double* x) const {
        for (std::int64_t i = 0; i < m_; ++i) {
            for (std::int64_t k = 0; k < i; ++k) {
                x[i] -= gram_[i * m_ + k] * x[k];
            }
            x[i] /= gram_[i * m_ + i];
        }
        for (std::int64_t i = m_ - 1; i >= 0; --i) {
            for (std::int64_t k = i + 1; k < m_; ++k) {
                x[i] -= gram_[k * m_ + i] * x[k];
            }
            x[i] /= gram_[i * m_ + i];
        }
    }

    /// weights_ = G^-1 mu; mu^T G^-1 mu.
    MOBALAB_SIM_INLINE double weigh(double mu_signal, double mu_cluster) {
        for (std::int64_t i = 0; i < m_; ++i) {
            weights_[i] = i == 0 ? mu_signal : mu_cluster;
        }
        solve(weights_);
        double needed = mu_signal * weights_[0];
        for (std::int64_t i = 1; i < m_; ++i) {
            needed += mu_cluster * weights_[i];
        }
        return needed;
    }

    MOBALAB_SIM_INLINE void add(double share, const float* key) {
        double* query = query_;
        team_.each(d_, [=](std::int64_t e) { query[e] += share * static_cast<double>(key[e]); });
    }

    Team team_;
    std::int64_t m_;
    std::int64_t d_;
    double* gram_;
    double* weights_;
    double* shares_;
    double* query_;
    const float* keys_ = nullptr;
    double needed_ = 0.0;
};

/// Whether a query can have affinities that need this squared length. Rounding: one needle with mu = 1 needs 1 and a
/// few ulps.
MOBALAB_SIM_INLINE bool is_feasible(double needed) {
    return needed <= 1.0 + 1e-6;
}

/// Coordinates are summed in this many lanes, e in lane e mod kTeamLanes, in the order of e; then the upper half of the
/// lanes is added to the lower until one is left.
inline constexpr std::int64_t kTeamLanes = 8;

/// A team of one.
struct HostTeam {
    template <class Term>
    static double sum(std::int64_t count, Term term) {
        double lanes[kTeamLanes] = {};
        std::int64_t e = 0;
        for (; e + kTeamLanes <= count; e += kTeamLanes) {
            for (std::int64_t lane = 0; lane < kTeamLanes; ++lane) {
                lanes[lane] += term(e + lane);
            }
        }
        for (std::int64_t lane = 0; e + lane < count; ++lane) {
            lanes[lane] += term(e + lane);
        }
        for (std::int64_t half = kTeamLanes / 2; half > 0; half /= 2) {
            for (std::int64_t lane = 0; lane < half; ++lane) {
                lanes[lane] += lanes[lane + half];
            }
        }
        return lanes[0];
    }
    template <class Body>
    static void each(std::int64_t count, Body body) {
        for (std::int64_t e = 0; e < count; ++e) {
            body(e);
        }
    }
    static bool leads() { return true; }
    static double from_leader(double x) { return x; }
    static void sync() {}
};

}  // namespace mobalab::sim
