#include "engine/prefill_rank.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/fault.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

int64_t TotalRows(const std::vector<PackedItem>& items) {
  int64_t rows = 0;
  for (const PackedItem& item : items) rows += item.row_count;
  return rows;
}

// Whether the rows of `pass` attend in `layer` over K,V that the pass they go on from has made.
bool ReadsSource(const PrefillPass& pass, int layer) { return layer < FirstKvLayer(pass); }

bool IsScored(const PrefillPass& pass, int layer) { return layer >= pass.first_scored_layer; }

const void* At(const void* data, int64_t bytes) {
  return static_cast<const std::byte*>(data) + bytes;
}

}  // namespace

bool RunTogether(const PrefillPass& a, const PrefillPass& b) {
  return a.first_layer == b.first_layer && a.last_layer == b.last_layer &&
         FirstKvLayer(a) == FirstKvLayer(b) && a.is_selected == b.is_selected &&
         a.makes_logits == b.makes_logits;
}

absl::StatusOr<std::unique_ptr<PrefillRank>> PrefillRank::Create(const Options& options,
                                                                 const ModelWeights& weights,
                                                                 Backend& backend,
                                                                 Communicator& communicator,
                                                                 const Clock& clock) {
  const int64_t max_rows = options.max_rows, max_context = options.max_context;
  auto r =
      std::unique_ptr<PrefillRank>(new PrefillRank(options, weights, backend, communicator, clock));
  WINNOW_ASSIGN_OR_RETURN(r->transformer_,
                          Transformer::Create(weights, backend, communicator, max_rows, 1));
  r->hidden_bytes_ = int64_t{weights.config.shape.hidden} * ElementSize(backend.dtype());
  WINNOW_ASSIGN_OR_RETURN(r->x_, backend.Allocate(max_rows * r->hidden_bytes_));
  WINNOW_ASSIGN_OR_RETURN(r->last_rows_, backend.Allocate(max_rows * r->hidden_bytes_));
  WINNOW_ASSIGN_OR_RETURN(r->positions_, backend.Allocate(max_rows * sizeof(int32_t)));
  WINNOW_ASSIGN_OR_RETURN(r->ids_, backend.Allocate(max_rows * sizeof(int32_t)));
  WINNOW_ASSIGN_OR_RETURN(r->iota_, backend.AllocateHost(max_context * sizeof(int32_t)));
  std::iota(r->iota_.data<int32_t>(), r->iota_.data<int32_t>() + max_context, 0);
  return r;
}

absl::Status PrefillRank::BeginLayer(Deadline deadline) {
  WINNOW_RETURN_IF_ERROR(FailAt("prefill.rank", communicator_.rank()));
  std::swap(layers_begun_[0], layers_begun_[1]);
  const EventPtr two_layers_ago = std::exchange(layers_begun_[1], backend_.Record());
  return two_layers_ago == nullptr ? absl::OkStatus() : two_layers_ago->Wait(clock_, deadline);
}

absl::Status PrefillRank::RunChunks(const std::vector<PackedItem>& items, StageTimeline* timeline,
                                    Deadline deadline) {
  const PrefillPass& pass = items.front().pass();  // the others' layers are the same
  timeline_ = timeline;
  layers_stage_ = pass.is_selected ? &StageTimes::pruned_layers : &StageTimes::full_layers;
  transformer_->BeginStep();
  const int64_t rows = TotalRows(items);
  WINNOW_RETURN_IF_ERROR(LoadRows(items, deadline));
  if (pass.source != PrefillPass::kPrompt) EndStage(&StageTimes::select);
  for (int layer = pass.first_layer; layer < pass.last_layer; ++layer) {
    WINNOW_RETURN_IF_ERROR(BeginLayer(deadline));
    WINNOW_RETURN_IF_ERROR(WholeLayer(layer, items, rows, deadline));
  }
  if (pass.makes_logits) {
    WINNOW_RETURN_IF_ERROR(LastRows(pass.last_layer, items, rows, deadline));
    EndStage(layers_stage_);
    return MakeLogits(items, deadline);
  }
  WINNOW_RETURN_IF_ERROR(KeysAndValues(pass.last_layer, items, rows, deadline));
  for (const PackedItem& item : items) {
    if (item.is_last_chunk) WINNOW_RETURN_IF_ERROR(SelectNext(item, deadline));
  }
  return absl::OkStatus();
}

absl::Status PrefillRank::LoadRows(const std::vector<PackedItem>& items, Deadline deadline) {
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    const int32_t* positions = item.state->positions(item.pass_index);
    backend_.Copy(positions_.data<int32_t>() + offset,
                  (positions == nullptr ? iota_.data<int32_t>() : positions) + item.row_begin,
                  item.row_count * sizeof(int32_t));
    void* to = row(x_, offset);
    if (item.pass().source == PrefillPass::kPrompt) {
      WINNOW_RETURN_IF_ERROR(EmbedRows(item, to, deadline));
    } else {
      LoadHeldRows(item, to);
    }
    offset += item.row_count;
  }
  return absl::OkStatus();
}

absl::Status PrefillRank::EmbedRows(const PackedItem& item, void* to, Deadline deadline) {
  const int32_t* ids = item.state->ids() + item.row_begin;
  if (item.pass().is_selected) {
    backend_.GatherRows({.in = item.state->ids(),
                         .out = ids_.data(),
                         .index = item.state->selector()->rows(item.pass_index) + item.row_begin,
                         .rows = item.row_count,
                         .row_bytes = sizeof(int32_t)});
    ids = ids_.data<int32_t>();
  }
  return transformer_->Embed(ids, item.row_count, to, deadline);
}

void PrefillRank::LoadHeldRows(const PackedItem& item, void* to) {
  const void* held = item.state->held_rows(item.pass().source);
  if (!item.pass().is_selected) {
    backend_.Copy(to, At(held, item.row_begin * hidden_bytes_), item.row_count * hidden_bytes_);
    return;
  }
  backend_.GatherRows({.in = held,
                       .out = to,
                       .index = item.state->selector()->rows(item.pass_index) + item.row_begin,
                       .rows = item.row_count,
                       .row_bytes = hidden_bytes_});
}

std::vector<Transformer::KvSlots> PrefillRank::Slots(int layer,
                                                     const std::vector<PackedItem>& items) const {
  std::vector<Transformer::KvSlots> slots;
  if (ReadsSource(items.front().pass(), layer)) return slots;
  for (const PackedItem& item : items) {
    slots.push_back({.keys = item.state->keys(item.pass_index, layer),
                     .values = item.state->values(item.pass_index, layer),
                     .rows = item.row_count,
                     .slot_begin = item.row_begin,
                     .capacity = item.pass().num_rows});
  }
  return slots;
}

void PrefillRank::Attend(int layer, const PackedItem& item, const void* q, int64_t offset,
                         float* lse) {
  const ModelShape& shape = weights_.config.shape;
  const HeadSplit& heads = weights_.shard.heads;
  const PrefillPass& pass = item.pass();
  const PrefillState& state = *item.state;
  const bool reads_source = ReadsSource(pass, layer);
  const int kv_pass = reads_source ? pass.source : item.pass_index;
  // Selected rows see the keys of the rows before them in their source.
  const int32_t* seen = reads_source && pass.is_selected
                            ? state.selector()->rows(item.pass_index) + item.row_begin
                            : nullptr;
  const int64_t q_row = int64_t{heads.q_count} * shape.head_dim;
  const int64_t at = offset * q_row * ElementSize(backend_.dtype());
  backend_.Attention(
      {.q = At(q, at),
       .k = state.keys(kv_pass, layer),
       .v = state.values(kv_pass, layer),
       .out = static_cast<std::byte*>(transformer_->attention_out()) + at,
       .positions = seen,
       .dtype = backend_.dtype(),
       .rows = item.row_count,
       .q_stride = q_row,
       .capacity = state.plan().passes[kv_pass].num_rows,
       .first_visible = seen == nullptr ? item.row_begin + 1 : 1,
       .q_heads = heads.q_count,
       .kv_heads = heads.kv_count,
       .head_dim = shape.head_dim,
       .lse = lse,
       .lse_begin = lse == nullptr ? 0 : state.selector()->first_query_row() - item.row_begin});
}

absl::Status PrefillRank::WholeLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                     Deadline deadline) {
  const HeadSplit& heads = weights_.shard.heads;
  const int64_t q_bytes =
      int64_t{heads.q_count} * weights_.config.shape.head_dim * ElementSize(backend_.dtype());
  const bool reads_source = ReadsSource(items.front().pass(), layer);
  const std::vector<Transformer::KvSlots> slots = Slots(layer, items);
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = x_.data(),
                                                      .rows = rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_kv = !reads_source,
                                                      .slots = slots},
                                                     deadline));
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    const bool is_scored = IsScored(item.pass(), layer);
    float* lse = is_scored && item.is_last_chunk
                     ? item.state->selector()->attention_lse(layer, item.row_begin)
                     : nullptr;
    Attend(layer, item, input.q, offset, lse);
    if (is_scored) {
      item.state->selector()->OnQueries(layer, At(input.q, offset * q_bytes), item.row_begin,
                                        item.row_count);
    }
    offset += item.row_count;
  }
  if (!reads_source) WINNOW_RETURN_IF_ERROR(OnKeysComplete(layer, items, deadline));
  return transformer_->FinishLayer(layer, transformer_->attention_out(), x_.data(), rows, deadline);
}

absl::Status PrefillRank::OnKeysComplete(int layer, const std::vector<PackedItem>& items,
                                         Deadline deadline) {
  for (const PackedItem& item : items) {
    const PrefillPass& pass = item.pass();
    const bool heads_choose = item.state->plan().kv.form(layer) == KvForm::kPerHead;
    if (pass.stores_kv && !heads_choose) {
      shipper_.ShipRows(*item.state, item.pass_index, layer, item.row_begin,
                        item.row_begin + item.row_count, item.destination);
    }
    if (!item.is_last_chunk || !IsScored(pass, layer)) continue;
    // The last layer's attention runs for the rows of the next pass only; its stage has ended.
    const bool has_attended = layer < pass.last_layer;
    if (has_attended) EndStage(layers_stage_);
    TokenSelector& selector = *item.state->selector();
    const float* lse = has_attended ? selector.attention_lse(layer, item.row_begin) : nullptr;
    WINNOW_RETURN_IF_ERROR(
        selector.OnKeys(layer, item.state->keys(item.pass_index, layer), lse, deadline));
    if (pass.stores_kv && heads_choose) {
      shipper_.ShipHeadEntries(*item.state, item.pass_index, layer, item.destination);
    }
    EndStage(&StageTimes::score);
  }
  return absl::OkStatus();
}

absl::Status PrefillRank::KeysAndValues(int layer, const std::vector<PackedItem>& items,
                                        int64_t rows, Deadline deadline) {
  WINNOW_RETURN_IF_ERROR(transformer_->Settle(x_.data(), deadline));
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    void* held = item.state->held_rows(item.pass_index);
    if (held != nullptr) {  // else later passes start again from the prompt
      backend_.Copy(static_cast<std::byte*>(held) + item.row_begin * hidden_bytes_, row(x_, offset),
                    item.row_count * hidden_bytes_);
    }
    offset += item.row_count;
  }
  const std::vector<Transformer::KvSlots> slots = Slots(layer, items);
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = x_.data(),
                                                      .rows = rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_q = false,
                                                      .slots = slots},
                                                     deadline));
  EndStage(layers_stage_);
  offset = 0;
  for (const PackedItem& item : items) {
    if (IsScored(item.pass(), layer)) {
      TokenSelector& selector = *item.state->selector();
      const int64_t first = std::max(item.row_begin, selector.first_query_row());
      const int64_t wanted = item.row_begin + item.row_count - first;
      if (wanted > 0) {
        const int64_t packed = offset + first - item.row_begin;
        const void* q = transformer_->ProjectQ(layer, At(input.normed, packed * hidden_bytes_),
                                               positions_.data<int32_t>() + packed, wanted);
        selector.OnQueries(layer, q, first, wanted);
      }
      EndStage(&StageTimes::score);
    }
    offset += item.row_count;
  }
  return OnKeysComplete(layer, items, deadline);
}

absl::Status PrefillRank::SelectNext(const PackedItem& item, Deadline deadline) {
  const int next = item.pass_index + 1;
  if (!item.state->plan().passes[next].is_selected) return absl::OkStatus();
  WINNOW_RETURN_IF_ERROR(item.state->selector()->Reduce(next, deadline));
  EndStage(&StageTimes::allreduce);
  item.state->selector()->Select(next);
  EndStage(&StageTimes::select);
  return absl::OkStatus();
}

absl::Status PrefillRank::LastRows(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                   Deadline deadline) {
  const bool reads_source = ReadsSource(items.front().pass(), layer);
  if (!options_.trim_last_layer && !reads_source) {
    WINNOW_RETURN_IF_ERROR(WholeLayer(layer, items, rows, deadline));
  } else if (!reads_source) {
    const std::vector<Transformer::KvSlots> slots = Slots(layer, items);
    WINNOW_RETURN_IF_ERROR(transformer_
                               ->ProjectInput({.layer = layer,
                                               .x = x_.data(),
                                               .rows = rows,
                                               .positions = positions_.data<int32_t>(),
                                               .with_q = false,
                                               .slots = slots},
                                              deadline)
                               .status());
    WINNOW_RETURN_IF_ERROR(OnKeysComplete(layer, items, deadline));
  }
  std::vector<PackedItem> last;  // the last row of each sequence that ends here
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    offset += item.row_count;
    if (!item.is_last_chunk) continue;
    const auto index = static_cast<int64_t>(last.size());
    backend_.Copy(row(last_rows_, index), row(x_, offset - 1), hidden_bytes_);
    backend_.Copy(positions_.data<int32_t>() + index, positions_.data<int32_t>() + offset - 1,
                  sizeof(int32_t));
    last.push_back(item);
    last.back().row_begin = item.pass().num_rows - 1;
    last.back().row_count = 1;
  }
  if (last.empty() || (!options_.trim_last_layer && !reads_source)) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = last_rows_.data(),
                                                      .rows = static_cast<int64_t>(last.size()),
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_kv = false},
                                                     deadline));
  for (size_t index = 0; index < last.size(); ++index) {
    Attend(layer, last[index], input.q, static_cast<int64_t>(index), nullptr);
  }
  return transformer_->FinishLayer(layer, transformer_->attention_out(), last_rows_.data(),
                                   static_cast<int64_t>(last.size()), deadline);
}

absl::Status PrefillRank::MakeLogits(const std::vector<PackedItem>& items, Deadline deadline) {
  int64_t index = 0;
  for (const PackedItem& item : items) {
    if (!item.is_last_chunk) continue;
    WINNOW_RETURN_IF_ERROR(
        transformer_->Logits(row(last_rows_, index++), 1, item.state->logits(), deadline));
    item.state->CopyResults();
  }
  if (index > 0) {  // the one host read of a prefill
    WINNOW_RETURN_IF_ERROR(backend_.Record()->Wait(clock_, deadline));
    EndStage(&StageTimes::head);
  }
  return absl::OkStatus();
}

}  // namespace winnow
