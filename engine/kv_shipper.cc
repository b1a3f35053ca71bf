#include "engine/kv_shipper.h"

namespace winnow {
namespace {

bool Ships(const KvDestination& to) { return to.staging != nullptr && to.staging->heads.ships_kv; }

}  // namespace

void KvShipper::ShipRows(PrefillState& state, int pass, int layer, int64_t begin, int64_t end,
                         const KvDestination& to) const {
  if (!Ships(to)) return;
  const KvStaging::Rank& staging = *to.staging;
  const KvLayout& layout = staging.layout;
  const int64_t row_bytes = layout.row_bytes(layer);
  const int64_t capacity = state.plan().passes[pass].num_rows;
  const int64_t bytes = (end - begin) * row_bytes;
  for (int head = 0; head < staging.heads.kv_count; ++head) {
    const int64_t at = (head * capacity + begin) * row_bytes;
    backend_.CopyOut(staging.at(layout.key_offset(layer, head, begin)),
                     static_cast<std::byte*>(state.keys(pass, layer)) + at, bytes);
    backend_.CopyOut(staging.at(layout.value_offset(layer, head, begin)),
                     static_cast<std::byte*>(state.values(pass, layer)) + at, bytes);
  }
  if (layout.position_rows(layer) > 0) {
    backend_.CopyOut(staging.at(layout.positions_offset(layer, 0, begin)),
                     state.positions(pass) + begin, (end - begin) * sizeof(int32_t));
  }
  to.sink->OnKvReady({.rank = rank_, .layer = layer, .slot_begin = begin, .slot_end = end},
                     backend_.RecordOut());
}

void KvShipper::ShipHeadEntries(PrefillState& state, int pass, int layer,
                                const KvDestination& to) const {
  if (!Ships(to)) return;
  const KvStaging::Rank& staging = *to.staging;
  const KvLayout& layout = staging.layout;
  const int64_t entries = layout.slots(layer);
  const int64_t row_bytes = layout.row_bytes(layer);
  GatherRowsParams gather{.index = state.selector()->head_positions(layer),
                          .rows = entries,
                          .row_bytes = row_bytes,
                          .in_head_stride = state.plan().passes[pass].num_rows * row_bytes,
                          .out_head_stride = entries * row_bytes,
                          .index_head_stride = entries,
                          .heads = staging.heads.kv_count};
  gather.in = state.keys(pass, layer);
  gather.out = staging.at(layout.key_offset(layer, 0, 0));
  backend_.GatherRowsOut(gather, state.next_gather_workspace());
  gather.in = state.values(pass, layer);
  gather.out = staging.at(layout.value_offset(layer, 0, 0));
  backend_.GatherRowsOut(gather, state.next_gather_workspace());
  backend_.CopyOut(staging.at(layout.positions_offset(layer, 0, 0)),
                   state.selector()->head_positions(layer),
                   gather.heads * entries * sizeof(int32_t));
  to.sink->OnKvReady({.rank = rank_, .layer = layer, .slot_begin = 0, .slot_end = entries},
                     backend_.RecordOut());
}

}  // namespace winnow
