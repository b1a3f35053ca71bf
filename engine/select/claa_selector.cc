#include "engine/select/claa_selector.h"

#include <algorithm>
#include <limits>

#include "common/status_macros.h"
#include "plan/kept_tokens.h"

namespace winnow {
namespace {

// Of one layer's window queries.
int64_t WindowBytes(const SelectorContext& context) {
  return int64_t{context.heads.q_count} * context.config.window * context.plan.kv.head_dim *
         ElementSize(context.backend.dtype());
}

// Most entries that a KV head chooses for itself in a layer; 0: no layer has such entries.
int64_t MaxHeadEntries(const KvPlan& plan) {
  int64_t most = 0;
  for (const KvSegment& segment : plan.segments) {
    if (segment.form == KvForm::kPerHead) most = std::max(most, segment.entries);
  }
  return most;
}

}  // namespace

// Bytes of every device buffer.
struct ClaaSelector::Sizes {
  int64_t window_q, window_lse, gathered_q, layer_scores, best, positions, head_positions;
  int64_t workspace;

  Sizes(const SelectorContext& context, int num_ranks) {
    constexpr int64_t kInt = sizeof(int32_t), kFloat = sizeof(float);
    const KvPlan& kv = context.plan.kv;
    const PrefillPass& scoring = context.plan.passes[0];
    const HeadSplit& heads = context.heads;
    const int64_t num_scored = scoring.last_layer - scoring.first_scored_layer + 1;
    const int64_t q_heads = heads.q_count, kv_heads = heads.kv_count;
    const int64_t window = WindowBytes(context);
    window_q = num_scored * window;
    window_lse = num_scored * q_heads * (kv.num_prompt_tokens - kv.tail_begin) * kFloat;
    gathered_q = heads.sharing_ranks > 1 ? num_ranks * window : 0;
    layer_scores = kv_heads * kv.tail_begin * kFloat;
    best = (kv.tail_begin + 1) * kFloat;
    positions = context.plan.passes[1].num_rows * kInt;
    head_positions = num_scored * kv_heads * MaxHeadEntries(kv) * kInt;
    workspace = context.backend.WorkspaceBytes(
        WindowScoresParams{.dtype = context.backend.dtype(),
                           .window_begin = kv.tail_begin,
                           .capacity = kv.num_prompt_tokens,
                           .window = context.config.window,
                           .pool_kernel = context.config.pool_kernel,
                           .q_heads = heads.q_count * heads.sharing_ranks,
                           .kv_heads = heads.kv_count,
                           .head_dim = kv.head_dim});
  }
};

int64_t ClaaSelector::DeviceBytes(const SelectorContext& context, int num_ranks) {
  const Sizes s(context, num_ranks);
  return s.window_q + s.window_lse + s.gathered_q + s.layer_scores + s.best + s.positions +
         s.head_positions + s.workspace;
}

ClaaSelector::ClaaSelector(const SelectorContext& context, Communicator& communicator)
    : plan_(context.plan),
      config_(context.config),
      heads_(context.heads),
      backend_(context.backend),
      communicator_(communicator),
      max_entries_(MaxHeadEntries(context.plan.kv)) {}

absl::StatusOr<std::unique_ptr<ClaaSelector>> ClaaSelector::Create(const SelectorContext& context,
                                                                   Communicator& communicator) {
  auto selector = std::unique_ptr<ClaaSelector>(new ClaaSelector(context, communicator));
  WINNOW_RETURN_IF_ERROR(selector->Allocate());
  return selector;
}

int64_t ClaaSelector::window_bytes() const {
  return WindowBytes({plan_, config_, heads_, backend_});
}

absl::Status ClaaSelector::Allocate() {
  const Sizes sizes({plan_, config_, heads_, backend_}, communicator_.size());
  WINNOW_ASSIGN_OR_RETURN(window_q_, backend_.Allocate(sizes.window_q));
  WINNOW_ASSIGN_OR_RETURN(window_lse_, backend_.Allocate(sizes.window_lse));
  WINNOW_ASSIGN_OR_RETURN(gathered_q_, backend_.Allocate(sizes.gathered_q));
  WINNOW_ASSIGN_OR_RETURN(layer_scores_, backend_.Allocate(sizes.layer_scores));
  WINNOW_ASSIGN_OR_RETURN(best_, backend_.Allocate(sizes.best));
  WINNOW_ASSIGN_OR_RETURN(positions_, backend_.Allocate(sizes.positions));
  WINNOW_ASSIGN_OR_RETURN(head_positions_, backend_.Allocate(sizes.head_positions));
  WINNOW_ASSIGN_OR_RETURN(workspace_, backend_.Allocate(sizes.workspace));
  WINNOW_ASSIGN_OR_RETURN(host_positions_, backend_.AllocateHost(sizes.positions));
  WINNOW_ASSIGN_OR_RETURN(host_best_, backend_.AllocateHost(sizes.best));
  const std::vector<PositionSpan> spans = ProtectedSpans(config_, window_begin());
  num_spans_ = static_cast<int>(spans.size());
  WINNOW_ASSIGN_OR_RETURN(
      spans_, backend_.AllocateHost(std::max<size_t>(1, spans.size()) * 2 * sizeof(int32_t)));
  for (int i = 0; i < num_spans_; ++i) {
    spans_.data<int32_t>()[2 * i] = static_cast<int32_t>(spans[i].begin);
    spans_.data<int32_t>()[2 * i + 1] = static_cast<int32_t>(spans[i].end);
  }
  backend_.Fill(best_.data<float>(), -std::numeric_limits<float>::infinity(), window_begin());
  backend_.Fill(best_.data<float>() + window_begin(), 0.0f, 1);
  return absl::OkStatus();
}

void ClaaSelector::OnQueries(int layer, const void* q, int64_t row_begin, int64_t rows) {
  const int64_t begin = std::max(row_begin, window_begin());
  const int64_t end = std::min(row_begin + rows, window_begin() + config_.window);
  if (begin >= end) return;
  const int64_t q_stride = int64_t{heads_.q_count} * plan_.kv.head_dim;
  const int64_t skip = (begin - row_begin) * q_stride * ElementSize(backend_.dtype());
  backend_.GatherWindow(
      {.q = static_cast<const std::byte*>(q) + skip,
       .out = window_q_.at((layer - scoring().first_scored_layer) * window_bytes()),
       .dtype = backend_.dtype(),
       .rows = end - begin,
       .q_stride = q_stride,
       .window_row = begin - window_begin(),
       .window = config_.window,
       .q_heads = heads_.q_count,
       .head_dim = plan_.kv.head_dim});
}

float* ClaaSelector::attention_lse(int layer, int64_t row_begin) const {
  if (row_begin > window_begin() || heads_.sharing_ranks > 1) return nullptr;
  return window_lse_.data<float>() +
         (layer - scoring().first_scored_layer) * int64_t{heads_.q_count} * rows_from_window();
}

absl::Status ClaaSelector::OnKeys(int layer, const void* keys, const float* lse,
                                  Deadline deadline) {
  const void* window = window_q_.at((layer - scoring().first_scored_layer) * window_bytes());
  int q_heads = heads_.q_count;
  if (heads_.sharing_ranks > 1) {
    // Ranks that share a KV head are neighbours, so their part of the gathered queries is the
    // group's, in head order.
    WINNOW_RETURN_IF_ERROR(
        communicator_.AllGather(window, gathered_q_.data(), window_bytes(), deadline));
    window = gathered_q_.at(int64_t{heads_.kv_begin} * heads_.sharing_ranks * window_bytes());
    q_heads *= heads_.sharing_ranks;
  }
  backend_.WindowScores({.q = window,
                         .k = keys,
                         .scores = layer_scores_.data<float>(),
                         .lse = lse,
                         .lse_stride = rows_from_window(),
                         .dtype = backend_.dtype(),
                         .window_begin = window_begin(),
                         .capacity = plan_.kv.num_prompt_tokens,
                         .window = config_.window,
                         .pool_kernel = config_.pool_kernel,
                         .q_heads = q_heads,
                         .kv_heads = heads_.kv_count,
                         .head_dim = plan_.kv.head_dim},
                        workspace_.data());
  if (layer >= FirstAggregatedLayer(config_)) {
    backend_.MaxScores({.scores = layer_scores_.data<float>(),
                        .best = best_.data<float>(),
                        .nan = best_.data<float>() + window_begin(),
                        .rows = heads_.kv_count,
                        .count = window_begin()});
  }
  if (plan_.kv.form(layer) == KvForm::kPerHead) {
    SelectTokensParams params = select_params(heads_.kv_count, plan_.kv.entries(layer));
    params.scores = layer_scores_.data<float>();
    params.positions = const_cast<int32_t*>(head_positions(layer));
    backend_.SelectTokens(params);
  }
  return absl::OkStatus();
}

absl::Status ClaaSelector::Reduce(int, Deadline deadline) {
  if (communicator_.size() == 1) return absl::OkStatus();
  return communicator_.AllReduceMax(best_.data<float>(), window_begin() + 1, deadline);
}

void ClaaSelector::Select(int) {
  SelectTokensParams params = select_params(1, num_kept());
  params.scores = best_.data<float>();
  params.positions = positions_.data<int32_t>();
  backend_.SelectTokens(params);
}

SelectTokensParams ClaaSelector::select_params(int rows, int64_t count) const {
  return {.spans = spans_.data<int32_t>(),
          .nan = best_.data<float>() + window_begin(),
          .rows = rows,
          .window_begin = window_begin(),
          .num_tokens = plan_.kv.num_prompt_tokens,
          .num_kept = count,
          .num_spans = num_spans_};
}

void ClaaSelector::CopyResults() {
  backend_.Copy(host_positions_.data(), positions_.data(), host_positions_.bytes());
  backend_.Copy(host_best_.data(), best_.data(), host_best_.bytes());
}

absl::Status ClaaSelector::Check() const {
  if (host_best_.data<float>()[window_begin()] == 0.0f) return absl::OkStatus();
  return absl::InternalError("an attention score is not a number");
}

absl::Span<const int32_t> ClaaSelector::kept_positions() const {
  return {host_positions_.data<int32_t>(), static_cast<size_t>(num_kept())};
}

absl::Span<const float> ClaaSelector::scores() const {
  return {host_best_.data<float>(), static_cast<size_t>(window_begin())};
}

}  // namespace winnow
