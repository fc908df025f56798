#include "experiments/points/rounding_columns.h"

#include <fmt/format.h>

#include <cstddef>

#include "analysis/centroid_rounding.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/parallel_for.h"

namespace mobalab::experiments {

using analysis::CentroidFormat;
using analysis::RoutingPoint;

namespace {

analysis::RoundingQuestion question_of(const RoutingPoint& point, double mean, CentroidFormat format) {
    return {.head_dim = point.head_dim,
            .block_size = point.block_size,
            .candidates = point.candidates,
            .seq_len = point.seq_len,
            .topk = point.topk,
            .shared_mean = mean,
            .format = format};
}

}  // namespace

std::vector<Flag> rounding_flags() {
    return {{"shared-mean", "LIST", "",
             "common mean of all keys, in spreads of the keys: adds what rounding of centroids changes"}};
}

std::vector<double> shared_means(const Arguments& arguments) {
    return arguments.given("shared-mean") ? arguments.reals("shared-mean", 0.0, analysis::most_shared_mean)
                                          : std::vector<double>{};
}

std::vector<RoutingPoint> with_each_mean(const std::vector<RoutingPoint>& points, const std::vector<double>& means) {
    std::vector<RoutingPoint> all;
    all.reserve(points.size() * means.size());
    for (const RoutingPoint& point : points) {
        if (point.scorer.kind != analysis::ScorerKind::mean) {
            throw analysis::InputError(
                fmt::format("shared-mean: is about centroids, which scorer {} does not keep; nearest valid choice: "
                            "--scorer mean",
                            analysis::to_string(point.scorer)));
        }
        if (point.model == analysis::Model::text) {
            throw analysis::InputError(
                "shared-mean: is about independent keys; model text has --key-mean; nearest valid choice: --model "
                "gaussian");
        }
        if (point.key_correlation != 0.0 || point.key_conv != 0) {
            throw analysis::InputError(
                "shared-mean: is about independent keys, and these are correlated or convolved; nearest valid choice: "
                "--key-correlation 0 without a key convolution");
        }
        if (point.head_dim > analysis::most_rounded_head_dim) {
            throw analysis::InputError(
                fmt::format("head-dim = {}: must be at most {} with --shared-mean; nearest valid "
                            "choice: {}",
                            point.head_dim, analysis::most_rounded_head_dim, analysis::most_rounded_head_dim));
        }
        all.insert(all.end(), means.size(), point);
    }
    return all;
}

std::vector<Column> rounding_columns(const std::vector<RoutingPoint>& points, const std::vector<double>& means,
                                     int threads) {
    std::vector<double> mean(points.size());
    std::vector<double> bf16(points.size());
    std::vector<double> fp16(points.size());
    parallel_for(points.size(), threads, [&](std::size_t i) {
        stop_if_interrupted();
        mean[i] = means[i % means.size()];
        bf16[i] = analysis::changed_rows(question_of(points[i], mean[i], CentroidFormat::bf16));
        fp16[i] = analysis::changed_rows(question_of(points[i], mean[i], CentroidFormat::fp16));
    });
    const std::string definition =
        "of all rows of the sequence where seq_len is given, else of rows with these candidates; keys of spread 1 "
        "around a "
        "mean whose channels are normal; scores taken as bivariate normal";
    return {{"shared_mean", "standard deviation of the channels of the keys' common mean, in spreads of the keys", "1",
             std::move(mean)},
            {"changed_bf16", "expected share of rows that keep other blocks because centroids are rounded to bf16", "1",
             std::move(bf16), definition},
            {"changed_fp16", "expected share of rows that keep other blocks because centroids are rounded to fp16", "1",
             std::move(fp16), definition}};
}

std::vector<ShownColumn> rounding_answers() {
    return {{"shared_mean", "mean"}, {"changed_bf16", "changed bf16"}, {"changed_fp16", "changed fp16"}};
}

}  // namespace mobalab::experiments
