#include "experiments/simulation/simulation_record.h"

#include <nlohmann/json.hpp>

#include "experiments/results/results_file.h"

namespace mobalab::experiments {
namespace {

constexpr sim::StopReason all_reasons[] = {sim::StopReason::trials, sim::StopReason::misses,
                                           sim::StopReason::relative_error, sim::StopReason::seconds,
                                           sim::StopReason::exact};

sim::StopReason parse_reason(const std::string& name) {
    for (const sim::StopReason reason : all_reasons) {
        if (name == sim::to_string(reason)) {
            return reason;
        }
    }
    throw FileError("a journal record has the unknown stop reason " + name);
}

}  // namespace

std::string record_of(const PointProgress& point) {
    const sim::Progress& progress = point.progress;
    nlohmann::json json{{"chunks", progress.chunks},
                        {"seconds", progress.seconds},
                        {"trials", progress.stats.trials},
                        {"misses", progress.stats.misses},
                        {"ranks", progress.stats.rank_histogram},
                        {"finished", point.finished ? std::string(sim::to_string(point.reason)) : ""}};
    if (point.weighted.trials > 0) {
        json["weight"] = point.weighted.weight;
        json["squared_weight"] = point.weighted.squared_weight;
    }
    return json.dump();
}

PointProgress parse_record(const std::string& record) {
    try {
        const auto json = nlohmann::json::parse(record);
        PointProgress point;
        json.at("chunks").get_to(point.progress.chunks);
        json.at("seconds").get_to(point.progress.seconds);
        json.at("trials").get_to(point.progress.stats.trials);
        json.at("misses").get_to(point.progress.stats.misses);
        json.at("ranks").get_to(point.progress.stats.rank_histogram);
        const auto finished = json.at("finished").get<std::string>();
        point.finished = !finished.empty();
        point.reason = point.finished ? parse_reason(finished) : sim::StopReason::interrupted;
        if (json.contains("weight")) {
            point.weighted.trials = point.progress.stats.trials;
            json.at("weight").get_to(point.weighted.weight);
            json.at("squared_weight").get_to(point.weighted.squared_weight);
        }
        point.progress.stats.check();
        return point;
    } catch (const nlohmann::json::exception& error) {
        throw FileError(std::string("a journal record cannot be read: ") + error.what());
    }
}

std::vector<PointProgress> parse_records(const std::map<std::int64_t, std::string>& records, std::size_t points) {
    std::vector<PointProgress> all(points);
    for (const auto& [key, record] : records) {
        if (key < 0 || static_cast<std::size_t>(key) >= points) {
            throw FileError("a journal record is about a point the run does not have");
        }
        all[static_cast<std::size_t>(key)] = parse_record(record);
    }
    return all;
}

}  // namespace mobalab::experiments
