#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "analysis/key_models/key_models.h"
#include "analysis/score_law.h"

namespace mobalab::analysis {

struct HitProbability;
struct RoutingPoint;
struct TopKProblem;

#define MOBALAB_MODEL(name) name,
/// Law of the query-key affinities (see ARCHITECTURE.md, "Models"), by number. What a model is, its definition says:
/// nothing outside analysis/key_models/ compares one of these to choose a law.
enum class Model { MOBALAB_ANALYSIS_KEY_MODELS(MOBALAB_MODEL) };
#undef MOBALAB_MODEL

/// What one random row of a model is, before any shortcut of sim/.
enum class Rows {
    vectors,       ///< the d coordinates of a key
    affinities,    ///< a key's affinity q.k
    block_scores,  ///< the score of a whole block, normal; there are no keys
};

/// Mean and standard deviation of a signal block's score q . mean, less mu_noise, in units of a noise block's
/// standard deviation.
struct NormalSignal {
    double mean;
    double sd;
};

/// The law of the scores q . mean of blocks in one model. All are functions of valid points of that model; all but
/// trouble() of points whose law is known.
struct BlockScoreLaws {
    /// Why the law of this point is not known, in one line with the nearest choices; empty where it is known.
    std::string (*trouble)(const RoutingPoint& point);
    /// One needle's score against noise, for a signal score that is random.
    TopKProblem (*problem)(const RoutingPoint& point);
    NormalSignal (*signal)(const RoutingPoint& point);
    /// Logs of P(one noise score > signal score) and of its complement where every key of the signal block belongs to
    /// the cluster, so that its score is a constant. None: the signal score is random all the same.
    LogLaw (*noise_at_fixed_signal)(const RoutingPoint& point) = nullptr;
};

/// One model of keys; each is a file of analysis/key_models/. What it does not declare it does not have.
struct KeyModelDefinition {
    std::string_view name;
    Rows rows = Rows::vectors;  ///< as drawn by the model's own sampler
    /// Queries and keys are unit vectors, the keys independent and uniform on the sphere (but for key_correlation and
    /// key_conv): each affinity has density ~ (1 - t^2)^((d-3)/2).
    bool sphere_affinities = false;
    bool takes_mu_noise = false;         ///< RoutingPoint::mu_noise may be other than 0
    bool takes_key_correlation = false;  ///< RoutingPoint::key_correlation may be above 0
    bool takes_key_conv = false;         ///< RoutingPoint::key_conv may be above 0
    /// Keys are Gaussian vectors along a text, turned by RoPE (analysis/text_keys.h): key_mean, query_mean,
    /// effective_dim, key_memory and sink may be other than 0; one needle, no cluster.
    bool text_keys = false;
    /// With scorer mean the hit probability rises with head_dim where delta_mu_eff > 0, and falls elsewhere.
    bool monotone_in_head_dim = false;
    const BlockScoreLaws* laws =
        nullptr;  ///< none: no exact probability of scorer mean, its columns are missing values
    /// What scorer mean finds, approximately (analysis/scorer_approximation.h), where approximates() the point. None:
    /// no such approximation.
    HitProbability (*approximation)(const RoutingPoint& point) = nullptr;
    bool (*approximates)(const RoutingPoint& point) = nullptr;

    constexpr bool has_keys() const { return rows != Rows::block_scores; }
};

const KeyModelDefinition& definition_of(Model model);

/// "gaussian", "gaussian-fixed", "sphere", "vector", "text".
std::string_view to_string(Model model);

/// Inverse of to_string(). Throws InputError naming the accepted names.
Model parse_model(std::string_view name);

/// Every name, in the order of the list.
std::vector<std::string> key_model_names();

}  // namespace mobalab::analysis
