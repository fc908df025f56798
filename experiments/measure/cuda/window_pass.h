#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "experiments/measure/cuda/group_work.h"
#include "experiments/measure/cuda/window_buffers.h"

namespace mobalab::experiments::cuda {

/// BlockOutcomes on the device; [rows] each.
struct BlockColumns {
    StreamArray<float> past_mass, past_mass_no0, first_mass, first_mass_no0;
    StreamArray<std::int32_t> needle_key;
};

/// All that comes from one pass over q . k, window by window: every column but those of outputs.
class WindowPass {
public:
    WindowPass(const DeviceHead& head, std::span<const RouteSetting> settings, std::vector<GroupWork>& groups,
               cudaStream_t stream);

    /// Enqueues every window. Throws KernelError, also where a q . k is no finite number (then it has waited).
    void run();

    StreamArray<float> lse_log2;            ///< [rows]
    StreamArray<std::int32_t> distant_key;  ///< [rows]
    std::map<std::int64_t, BlockColumns> blocks;

private:
    /// One window and one block size.
    struct Part {
        WindowRows window;
        std::int64_t first_row = 0;
        std::int32_t block_size = 0;
        std::int32_t blocks = 0;
    };
    /// Scores of all candidates; null: the router has none.
    struct Scores {
        const float* scores = nullptr;
        bool are_masses = false;
    };

    void measure_units(const WindowRows& window, std::int64_t first_row);
    void measure_blocks(const Part& part, const BlockColumns& columns);
    void measure_group(const Part& part, GroupWork& group);
    Scores score(const Part& part, const GroupWork& group);
    void score_products(const Part& part, const DeviceSummaries& summaries);
    void rank(const Part& part, GroupWork& group);
    void add_statistics(const Part& part, const Scores& scores, GroupWork& group);
    void compare_unrounded(const Part& part, GroupWork& group);
    void add_outcomes(const Part& part, const Scores& scores, const RoutedWork& routed, const SettingColumns& setting,
                      const GroupWork& group);
    void check_overflow() const;

    const DeviceHead& head_;
    std::vector<GroupWork>& groups_;
    cudaStream_t stream_;
    WindowBuffers buffers_;
    float scale_, scale_log2_;
};

}  // namespace mobalab::experiments::cuda
