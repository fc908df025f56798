#include "experiments/measure/cuda/window_buffers.h"

#include <algorithm>

#include "experiments/measure/cuda/group_work.h"
#include "experiments/measure/cuda/score_statistics.h"

namespace mobalab::experiments::cuda {
namespace {

constexpr std::int64_t window_bytes = std::int64_t{1} << 31;  // of device memory, about
constexpr std::int64_t tile = 64;                             // rows

bool any_reference(std::span<const RouteSetting> settings, Reference reference) {
    return std::any_of(settings.begin(), settings.end(), [&](const RouteSetting& setting) {
        return reference_of(*find_router(setting.score.router)) == reference;
    });
}

}  // namespace

WindowBuffers::WindowBuffers(const DeviceHead& head, std::span<const RouteSetting> settings, cudaStream_t stream) {
    const bool wants_cumulants = any_reference(settings, Reference::cumulant);
    const bool wants_log_mass = any_reference(settings, Reference::mass);
    std::int64_t blocks = 1, slots = 0;
    for (const RouteSetting& setting : settings) {
        blocks = std::max<std::int64_t>(blocks, head.blocks(setting.score.block_size));
        slots = std::max<std::int64_t>(slots, head.slots(setting.score.block_size, setting.topk));
    }
    units.pitch = unit_pitch(head.keys());
    constexpr std::int64_t most_bytes_a_unit = 4 * sizeof(float) + 1, most_bytes_a_block = 4 * sizeof(float);
    const std::int64_t row_bytes = units.pitch * most_bytes_a_unit + blocks * most_bytes_a_block;
    const std::int64_t affordable = std::max(tile, window_bytes / row_bytes / tile * tile);
    rows = static_cast<std::int32_t>(std::min<std::int64_t>(head.rows(), affordable));

    const auto floats = [&](std::int64_t a_row) { return StreamArray<float>(rows * a_row, stream); };
    log_mass = floats(units.pitch);
    best = floats(units.pitch);
    best_key = StreamArray<std::uint8_t>(rows * std::int64_t{units.pitch}, stream);
    first_score = floats(1);
    cut_score = floats(1);
    cut_key = StreamArray<std::int32_t>(rows, stream);
    overflowed = StreamArray<std::int32_t>(1, stream);
    overflowed.clear();
    first_key_mass = floats(1);
    mean = StreamArray<double>(rows, stream);
    mass = floats(blocks);
    scores = floats(blocks);
    if (wants_cumulants) {
        sum = floats(units.pitch);
        spread = floats(units.pitch);
        cumulant = floats(blocks);
    }
    if (wants_log_mass) {
        block_log_mass = floats(blocks);
    }
    unrounded_selection = StreamArray<std::int32_t>(rows * slots, stream);
    distance_partial = StreamArray<double>(distance_pieces(rows) * (blocks + 1), stream);
    units.log_mass = log_mass.get();
    units.best = best.get();
    units.best_key = best_key.get();
    units.sum = sum.get();
    units.spread = spread.get();
    units.first_score = first_score.get();
    units.cut_score = cut_score.get();
    units.cut_key = cut_key.get();
}

}  // namespace mobalab::experiments::cuda
