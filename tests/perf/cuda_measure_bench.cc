// What measuring the heads of one layer costs on a device: 64K tokens, head_dim 128, bf16, block sizes 16 to 512 with
// 1024 keys kept, four scorers. Wall clock, copies to and from the device included; one head is measured once before.
//   cuda_measure_bench [heads, default 32] [tokens, default 65536]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "experiments/measure/head_meter.h"
#include "tests/experiments/measure/random_head.h"

namespace {

using namespace mobalab::experiments;

std::vector<RouteSetting> settings() {
    std::vector<RouteSetting> all;
    for (const std::int64_t block : {16, 32, 64, 128, 256, 512}) {
        for (const ScoreSetting& score :
             {ScoreSetting{.block_size = block, .router = "mean"}, ScoreSetting{.block_size = block, .router = "quest"},
              ScoreSetting{.block_size = block, .router = "max"},
              ScoreSetting{.block_size = block, .router = "submean", .sub_blocks = 2}}) {
            all.push_back({.score = score, .topk = 1024 / block});
        }
    }
    return all;
}

double seconds_of_head(HeadMeter& meter, const HeadTensors& head, const std::vector<RouteSetting>& asked) {
    const auto begin = std::chrono::steady_clock::now();
    const HeadOutcomes outcomes = meter.measure(head, asked, 1);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (outcomes.rows != head.q.rows || !(outcomes.settings.front().routed_mass.back() > 0.0F)) {
        std::fprintf(stderr, "the last row routes no mass\n");
        std::exit(1);
    }
    return seconds.count();
}

void time_layer(HeadMeter& meter, const HeadTensors& head, int heads, const char* what) {
    const std::vector<RouteSetting> asked = settings();
    seconds_of_head(meter, head, asked);
    std::vector<double> seconds;
    double total = 0.0;
    for (int i = 0; i < heads; ++i) {
        seconds.push_back(seconds_of_head(meter, head, asked));
        total += seconds.back();
    }
    std::nth_element(seconds.begin(), seconds.begin() + heads / 2, seconds.end());
    std::printf("%-28s %3d heads %8.2f s; median of a head %7.1f ms\n", what, heads, total,
                1e3 * seconds[static_cast<std::size_t>(heads / 2)]);
}

}  // namespace

int main(int argc, char** argv) {
    const int heads = argc > 1 ? std::atoi(argv[1]) : 32;
    const long tokens = argc > 2 ? std::atol(argv[2]) : 65536;
    if (heads < 1 || tokens < 4096) {
        std::fprintf(stderr, "usage: %s [heads, at least 1] [tokens, at least 4096]\n", argv[0]);
        return 2;
    }
    const auto meter = cuda_head_meter();
    HeadTensors head = testing_support::random_head({.head_dim = 128, .rows = tokens, .value_dim = 128}, 1);
    std::printf("%s, %ld tokens, %zu settings\n", meter->processor().c_str(), tokens, settings().size());
    time_layer(*meter, head, heads, "masses, scores and outputs");
    head.v = {};
    time_layer(*meter, head, heads, "masses and scores");
    return 0;
}
