#include "engine/prefill_rank.h"

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

}  // namespace

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

absl::Status PrefillRank::RunPrompt(const std::vector<PackedItem>& items, StageTimeline* timeline,
                                    Deadline deadline) {
  timeline_ = timeline;
  transformer_->BeginStep();
  const int pivot = items.front().state->plan().pivot_layer;
  const int64_t rows = TotalRows(items);
  PackPositions(items);
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    WINNOW_RETURN_IF_ERROR(transformer_->Embed(item.state->ids() + item.row_begin, item.row_count,
                                               row(x_, offset), deadline));
    offset += item.row_count;
  }
  EndStage(&StageTimes::full_layers);
  for (int layer = 0; layer < pivot; ++layer) {
    WINNOW_RETURN_IF_ERROR(BeginLayer(deadline));
    WINNOW_RETURN_IF_ERROR(PromptLayer(layer, items, rows, deadline));
  }
  WINNOW_RETURN_IF_ERROR(PivotKv(pivot, items, rows, deadline));
  for (const PackedItem& item : items) {
    if (item.is_last_chunk && item.state->claa() != nullptr) {
      WINNOW_RETURN_IF_ERROR(ReduceAndSelect(item, deadline));
    }
  }
  return absl::OkStatus();
}

void PrefillRank::PackPositions(const std::vector<PackedItem>& items) {
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    backend_.Copy(positions_.data<int32_t>() + offset, iota_.data<int32_t>() + item.row_begin,
                  item.row_count * sizeof(int32_t));
    offset += item.row_count;
  }
}

std::vector<Transformer::KvSlots> PrefillRank::Slots(int layer,
                                                     const std::vector<PackedItem>& items) const {
  std::vector<Transformer::KvSlots> slots;
  for (const PackedItem& item : items) {
    slots.push_back({.keys = item.state->keys(layer),
                     .values = item.state->values(layer),
                     .rows = item.row_count,
                     .slot_begin = item.row_begin,
                     .capacity = item.state->capacity(layer)});
  }
  return slots;
}

absl::Status PrefillRank::PromptLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                      Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const HeadSplit& heads = weights_.shard.heads;
  const int64_t q_row = int64_t{heads.q_count} * shape.head_dim;
  const int64_t element = ElementSize(backend_.dtype());

  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = x_.data(),
                                                      .rows = rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .slots = Slots(layer, items)},
                                                     deadline));
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    const bool is_scored = item.state->plan().is_scored(layer);
    float* lse = is_scored && item.is_last_chunk
                     ? item.state->claa()->window_lse(layer, item.row_begin)
                     : nullptr;
    backend_.Attention(
        {.q = static_cast<const std::byte*>(input.q) + offset * q_row * element,
         .k = item.state->keys(layer),
         .v = item.state->values(layer),
         .out = static_cast<std::byte*>(transformer_->attention_out()) + offset * q_row * element,
         .dtype = backend_.dtype(),
         .rows = item.row_count,
         .q_stride = q_row,
         .capacity = item.state->capacity(layer),
         .first_visible = item.row_begin + 1,
         .q_heads = heads.q_count,
         .kv_heads = heads.kv_count,
         .head_dim = shape.head_dim,
         .lse = lse,
         .lse_begin = lse == nullptr ? 0 : item.state->plan().window_begin - item.row_begin});
    if (is_scored) {
      item.state->claa()->CaptureWindow(
          layer, static_cast<const std::byte*>(input.q) + offset * q_row * element, item.row_begin,
          item.row_count);
    }
    offset += item.row_count;
  }
  EndStage(&StageTimes::full_layers);

  for (const PackedItem& item : items) {
    if (item.state->plan().form(layer) == KvLayerForm::kAll) {
      ShipRows(layer, item, item.row_begin, item.row_begin + item.row_count);
    }
    if (item.is_last_chunk && item.state->plan().is_scored(layer)) {
      const float* lse = item.state->claa()->window_lse(layer, item.row_begin);
      WINNOW_RETURN_IF_ERROR(Score(layer, item, lse, deadline));
    }
  }

  WINNOW_RETURN_IF_ERROR(
      transformer_->FinishLayer(layer, transformer_->attention_out(), x_.data(), rows, deadline));
  EndStage(&StageTimes::full_layers);
  return absl::OkStatus();
}

absl::Status PrefillRank::PivotKv(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                  Deadline deadline) {
  WINNOW_RETURN_IF_ERROR(transformer_->Settle(x_.data(), deadline));
  int64_t offset = 0;
  for (const PackedItem& item : items) {  // the rows that phase kKept starts from
    const int64_t held_begin = std::max(item.row_begin, item.state->pivot_rows_begin());
    const int64_t held_rows = item.row_begin + item.row_count - held_begin;
    if (held_rows > 0) {
      backend_.Copy(static_cast<std::byte*>(item.state->pivot_rows()) +
                        (held_begin - item.state->pivot_rows_begin()) * hidden_bytes_,
                    row(x_, offset + held_begin - item.row_begin), held_rows * hidden_bytes_);
    }
    offset += item.row_count;
  }
  const bool is_last = layer == weights_.config.shape.num_layers - 1;
  if (!options_.trim_last_layer && is_last) return PromptLayer(layer, items, rows, deadline);
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = x_.data(),
                                                      .rows = rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_q = false,
                                                      .slots = Slots(layer, items)},
                                                     deadline));
  EndStage(&StageTimes::full_layers);

  offset = 0;
  for (const PackedItem& item : items) {
    const KvPlan& plan = item.state->plan();
    if (plan.is_scored(layer)) {
      const int64_t first =
          std::max(item.row_begin, plan.window_begin);  // only the window's queries are needed
      const int64_t wanted = item.row_begin + item.row_count - first;
      if (wanted > 0) {
        const int64_t packed = offset + first - item.row_begin;
        const void* q = transformer_->ProjectQ(
            layer, static_cast<const std::byte*>(input.normed) + packed * hidden_bytes_,
            positions_.data<int32_t>() + packed, wanted);
        item.state->claa()->CaptureWindow(layer, q, first, wanted);
      }
      EndStage(&StageTimes::score);
      if (item.is_last_chunk) WINNOW_RETURN_IF_ERROR(Score(layer, item, nullptr, deadline));
    }
    if (plan.form(layer) == KvLayerForm::kAll) {
      ShipRows(layer, item, item.row_begin, item.row_begin + item.row_count);
    }
    offset += item.row_count;
  }
  return absl::OkStatus();
}

absl::Status PrefillRank::Score(int layer, const PackedItem& item, const float* lse,
                                Deadline deadline) {
  WINNOW_RETURN_IF_ERROR(
      item.state->claa()->ScoreLayer(layer, item.state->keys(layer), lse, deadline));
  if (item.state->plan().form(layer) == KvLayerForm::kPerHead) ShipPerHead(layer, item);
  EndStage(&StageTimes::score);
  return absl::OkStatus();
}

absl::Status PrefillRank::ReduceAndSelect(const PackedItem& item, Deadline deadline) {
  WINNOW_RETURN_IF_ERROR(item.state->claa()->Reduce(deadline));
  EndStage(&StageTimes::allreduce);
  item.state->claa()->Select();
  EndStage(&StageTimes::select);
  return absl::OkStatus();
}

absl::Status PrefillRank::RunKept(const std::vector<PackedItem>& items, StageTimeline* timeline,
                                  Deadline deadline) {
  timeline_ = timeline;
  transformer_->BeginStep();
  const KvPlan& plan = items.front().state->plan();
  const int64_t rows = TotalRows(items);
  LoadKeptRows(items, plan.pivot_layer);
  EndStage(plan.pruned ? &StageTimes::select : &StageTimes::pruned_layers);
  const int last_layer = plan.num_layers - 1;
  for (int layer = plan.pivot_layer; layer < last_layer; ++layer) {
    WINNOW_RETURN_IF_ERROR(BeginLayer(deadline));
    WINNOW_RETURN_IF_ERROR(KeptLayer(layer, items, rows, deadline));
  }
  WINNOW_RETURN_IF_ERROR(LastLayer(last_layer, items, rows, deadline));
  EndStage(&StageTimes::pruned_layers);
  return MakeLogits(items, deadline);
}

// x_ and positions_ of the packed kept rows.
void PrefillRank::LoadKeptRows(const std::vector<PackedItem>& items, int pivot) {
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    if (item.state->claa() == nullptr) {  // the one row is the last
      backend_.Copy(row(x_, offset), item.state->pivot_rows(), hidden_bytes_);
      backend_.Copy(positions_.data<int32_t>() + offset,
                    iota_.data<int32_t>() + item.state->plan().num_prompt_tokens - 1,
                    sizeof(int32_t));
    } else {
      const int32_t* kept = item.state->claa()->positions() + item.row_begin;
      backend_.GatherRows({.in = item.state->pivot_rows(),
                           .out = row(x_, offset),
                           .index = kept,
                           .rows = item.row_count,
                           .row_bytes = hidden_bytes_});
      backend_.Copy(positions_.data<int32_t>() + offset, kept, item.row_count * sizeof(int32_t));
    }
    offset += item.row_count;
  }
}

absl::Status PrefillRank::KeptLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                    Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const HeadSplit& heads = weights_.shard.heads;
  const int64_t q_row = int64_t{heads.q_count} * shape.head_dim;
  const int64_t element = ElementSize(backend_.dtype());
  const bool at_pivot =
      layer == items.front().state->plan().pivot_layer;  // its K,V exist already, for all N rows
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = x_.data(),
                                                      .rows = rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_kv = !at_pivot,
                                                      .slots = Slots(layer, items)},
                                                     deadline));
  int64_t offset = 0;
  for (const PackedItem& item : items) {
    backend_.Attention(
        {.q = static_cast<const std::byte*>(input.q) + offset * q_row * element,
         .k = item.state->keys(layer),
         .v = item.state->values(layer),
         .out = static_cast<std::byte*>(transformer_->attention_out()) + offset * q_row * element,
         .positions = at_pivot ? positions_.data<int32_t>() + offset : nullptr,
         .dtype = backend_.dtype(),
         .rows = item.row_count,
         .q_stride = q_row,
         .capacity = item.state->capacity(layer),
         .first_visible = at_pivot ? 1 : item.row_begin + 1,
         .q_heads = heads.q_count,
         .kv_heads = heads.kv_count,
         .head_dim = shape.head_dim});
    if (!at_pivot) ShipRows(layer, item, item.row_begin, item.row_begin + item.row_count);
    offset += item.row_count;
  }
  return transformer_->FinishLayer(layer, transformer_->attention_out(), x_.data(), rows, deadline);
}

// The last layer: K,V of all rows, the rest for each sequence's last row only.
absl::Status PrefillRank::LastLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                                    Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const HeadSplit& heads = weights_.shard.heads;
  const int64_t q_row = int64_t{heads.q_count} * shape.head_dim;
  const bool at_pivot = layer == items.front().state->plan().pivot_layer;
  if (!at_pivot) {
    WINNOW_RETURN_IF_ERROR(transformer_
                               ->ProjectInput({.layer = layer,
                                               .x = x_.data(),
                                               .rows = rows,
                                               .positions = positions_.data<int32_t>(),
                                               .with_q = false,
                                               .slots = Slots(layer, items)},
                                              deadline)
                               .status());
  }
  int64_t offset = 0;
  int64_t last_rows = 0;
  for (const PackedItem& item : items) {
    if (!at_pivot) ShipRows(layer, item, item.row_begin, item.row_begin + item.row_count);
    offset += item.row_count;
    if (!item.is_last_chunk) continue;
    backend_.Copy(row(last_rows_, last_rows), row(x_, offset - 1), hidden_bytes_);
    backend_.Copy(positions_.data<int32_t>() + last_rows,
                  iota_.data<int32_t>() + item.state->plan().num_prompt_tokens - 1,
                  sizeof(int32_t));
    ++last_rows;
  }
  if (last_rows == 0) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(const Transformer::Input input,
                          transformer_->ProjectInput({.layer = layer,
                                                      .x = last_rows_.data(),
                                                      .rows = last_rows,
                                                      .positions = positions_.data<int32_t>(),
                                                      .with_kv = false},
                                                     deadline));
  int64_t index = 0;
  for (const PackedItem& item : items) {
    if (!item.is_last_chunk) continue;
    const int64_t at = index++ * q_row * ElementSize(backend_.dtype());
    backend_.Attention({.q = static_cast<const std::byte*>(input.q) + at,
                        .k = item.state->keys(layer),
                        .v = item.state->values(layer),
                        .out = static_cast<std::byte*>(transformer_->attention_out()) + at,
                        .dtype = backend_.dtype(),
                        .rows = 1,
                        .q_stride = q_row,
                        .capacity = item.state->capacity(layer),
                        .first_visible = item.state->capacity(layer),
                        .q_heads = heads.q_count,
                        .kv_heads = heads.kv_count,
                        .head_dim = shape.head_dim});
  }
  return transformer_->FinishLayer(layer, transformer_->attention_out(), last_rows_.data(),
                                   last_rows, deadline);
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

void PrefillRank::ShipRows(int layer, const PackedItem& item, int64_t begin, int64_t end) {
  if (item.staging == nullptr || !item.staging->heads.ships_kv) return;
  const KvLayout& layout = item.staging->layout;
  const int64_t row_bytes = layout.row_bytes(layer);
  const int64_t capacity = item.state->capacity(layer);
  const int64_t bytes = (end - begin) * row_bytes;
  for (int head = 0; head < item.staging->heads.kv_count; ++head) {
    const int64_t at = (head * capacity + begin) * row_bytes;
    backend_.CopyOut(item.staging->at(layout.key_offset(layer, head, begin)),
                     static_cast<std::byte*>(item.state->keys(layer)) + at, bytes);
    backend_.CopyOut(item.staging->at(layout.value_offset(layer, head, begin)),
                     static_cast<std::byte*>(item.state->values(layer)) + at, bytes);
  }
  if (layout.position_rows(layer) > 0) {
    backend_.CopyOut(item.staging->at(layout.positions_offset(layer, 0, begin)),
                     item.state->claa()->positions() + begin, (end - begin) * sizeof(int32_t));
  }
  item.sink->OnKvReady({.rank = rank_, .layer = layer, .slot_begin = begin, .slot_end = end},
                       backend_.RecordOut());
}

void PrefillRank::ShipPerHead(int layer, const PackedItem& item) {
  if (item.staging == nullptr || !item.staging->heads.ships_kv) return;
  const KvLayout& layout = item.staging->layout;
  const int64_t kept = item.state->plan().num_kept;
  const int64_t row_bytes = layout.row_bytes(layer);
  GatherRowsParams gather{.index = item.state->claa()->head_positions(layer),
                          .rows = kept,
                          .row_bytes = row_bytes,
                          .in_head_stride = item.state->capacity(layer) * row_bytes,
                          .out_head_stride = kept * row_bytes,
                          .index_head_stride = kept,
                          .heads = item.staging->heads.kv_count};
  gather.in = item.state->keys(layer);
  gather.out = item.staging->at(layout.key_offset(layer, 0, 0));
  backend_.GatherRowsOut(gather, item.state->next_gather_workspace());
  gather.in = item.state->values(layer);
  gather.out = item.staging->at(layout.value_offset(layer, 0, 0));
  backend_.GatherRowsOut(gather, item.state->next_gather_workspace());
  backend_.CopyOut(item.staging->at(layout.positions_offset(layer, 0, 0)),
                   item.state->claa()->head_positions(layer),
                   gather.heads * kept * sizeof(int32_t));
  item.sink->OnKvReady({.rank = rank_, .layer = layer, .slot_begin = 0, .slot_end = kept},
                       backend_.RecordOut());
}

}  // namespace winnow
