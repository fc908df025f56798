#include "kernels/cpu/tile.h"

#include "kernels/cpu/convert.h"

namespace mobalab::kernels::cpu {
namespace {

template <typename TokenOf>
void load(ConstTensor tensor, DataType dtype, Index count, Index head, float factor, Index padded, RowTile& tile,
          const TokenOf& token_of) {
    for (Index i = 0; i < count; ++i) {
        read_row(row_address(tensor, dtype, token_of(i), head), dtype, tile.cols(), tile.row(i).data());
    }
    if (factor != 1.0F) tile.topRows(count) *= factor;
    tile.middleRows(count, padded - count).setZero();
}

}  // namespace

void load_rows(ConstTensor tensor, DataType dtype, Index begin, Index count, Index head, float factor, Index padded,
               RowTile& tile) {
    load(tensor, dtype, count, head, factor, padded, tile, [&](Index i) { return begin + i; });
}

void load_rows(ConstTensor tensor, DataType dtype, const std::int32_t* rows, Index count, Index head, float factor,
               Index padded, RowTile& tile) {
    load(tensor, dtype, count, head, factor, padded, tile, [&](Index i) { return Index{rows[i]}; });
}

}  // namespace mobalab::kernels::cpu
