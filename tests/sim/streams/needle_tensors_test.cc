// Unit rows and queries with needles: one definition, whatever is asked for at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "sim/streams/gaussian.h"
#include "sim/streams/needle_queries.h"
#include "sim/streams/unit_rows.h"

namespace mobalab::sim {
namespace {

const std::vector<std::int64_t> kHeadDims = {2, 3, 7, 16, 30, 64, 96, 128, 130, 256, 9001};

UnitRows rows_of(std::int64_t head_dim) {
    return {.head_dim = head_dim, .key = {3, 4}, .subsequence = 5};
}

std::vector<float> filled(const UnitRows& rows, std::int64_t first, std::int64_t count) {
    std::vector<float> out(static_cast<std::size_t>(count * rows.head_dim));
    fill_unit_rows(rows, first, out);
    return out;
}

TEST(UnitRows, are_the_documented_function_of_the_normals) {
    constexpr std::int64_t kCount = 300;  // rows on both sides of a slice
    for (const std::int64_t d : kHeadDims) {
        const UnitRows rows = rows_of(d);
        std::vector<float> normals(static_cast<std::size_t>(kCount * d));
        fill_gaussian(normals, rows.key, rows.subsequence);
        const std::vector<float> seen = filled(rows, 0, kCount);
        for (std::int64_t row = 0; row < kCount; ++row) {
            float lanes[16] = {};
            double exact = 0.0;
            for (std::int64_t e = 0; e < d; ++e) {
                const float x = normals[static_cast<std::size_t>(row * d + e)];
                lanes[e % 16] += x * x;
                exact += static_cast<double>(x) * static_cast<double>(x);
            }
            for (int half = 8; half > 0; half /= 2) {
                for (int lane = 0; lane < half; ++lane) {
                    lanes[lane] += lanes[lane + half];
                }
            }
            ASSERT_NEAR(lanes[0], exact, 1e-5 * exact);
            const float scale = 1.0F / std::sqrt(lanes[0]);
            for (std::int64_t e = row * d; e < (row + 1) * d; ++e) {
                const auto i = static_cast<std::size_t>(e);
                ASSERT_EQ(seen[i], normals[i] * scale) << "d " << d << ", row " << row;
            }
        }
    }
}

TEST(UnitRows, a_row_depends_on_its_number_alone) {
    for (const std::int64_t d : kHeadDims) {
        const std::vector<float> all = filled(rows_of(d), 0, 200);
        for (const std::int64_t first : {0, 1, 2, 3, 77}) {
            const std::vector<float> some = filled(rows_of(d), first, 100);
            EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * d)) << "d " << d << " at " << first;
        }
    }
}

NeedleQueries recipe_of(std::int64_t head_dim, std::int64_t cluster_size, double mu_signal, double mu_cluster) {
    NeedleQueries recipe{.keys = rows_of(head_dim),
                         .noise = {.head_dim = head_dim, .key = {6, 7}, .subsequence = 8},
                         .cluster_size = cluster_size,
                         .mu_signal = mu_signal,
                         .mu_cluster = mu_cluster,
                         .slots = {}};
    recipe.slots.resize(static_cast<std::size_t>(200 * cluster_size));
    std::iota(recipe.slots.begin(), recipe.slots.end(), 1000);
    return recipe;
}

double dot(const float* a, const float* b, std::int64_t d) {
    return std::inner_product(a, a + d, b, 0.0, std::plus<>(),
                              [](float x, float y) { return static_cast<double>(x) * y; });
}

TEST(NeedleQueries, have_the_affinities_where_that_can_be) {
    for (const std::int64_t d : {16, 31, 128}) {
        for (const std::int64_t m : {1, 4, 15}) {
            const double mu_cluster = 0.5 / std::sqrt(static_cast<double>(m));
            const NeedleQueries recipe = recipe_of(d, m, 0.8, mu_cluster);
            std::vector<float> queries(static_cast<std::size_t>(200 * d));
            std::vector<std::uint8_t> feasible(200, 2);
            build_needle_queries(recipe, queries, feasible);
            const std::vector<float> keys = filled(recipe.keys, 1000, 200 * m);
            for (std::int64_t i = 0; i < 200; ++i) {
                const float* query = queries.data() + i * d;
                const float* cluster = keys.data() + i * m * d;
                EXPECT_NEAR(dot(query, query, d), 1.0, 1e-6);
                const double needed = needed_length({cluster, static_cast<std::size_t>(m * d)}, m, 0.8, mu_cluster);
                ASSERT_EQ(feasible[static_cast<std::size_t>(i)], needed <= 1.0 + 1e-6 ? 1 : 0);
                for (std::int64_t t = 0; t < m && feasible[static_cast<std::size_t>(i)] == 1; ++t) {
                    EXPECT_NEAR(dot(query, cluster + t * d, d), t == 0 ? 0.8 : mu_cluster, 3e-6);
                }
            }
        }
    }
}

TEST(NeedleQueries, dependent_keys_allow_no_affinities) {
    std::vector<float> twice = filled(rows_of(4), 0, 1);
    twice.insert(twice.end(), {0.0F, 0.0F, 0.0F, 0.0F});
    EXPECT_EQ(needed_length(twice, 2, 0.5, 0.5), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace mobalab::sim
