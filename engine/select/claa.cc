#include "engine/select/claa.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {

namespace {

constexpr char kMismatchPayload[] = "winnow/selection-mismatch";

// Of one layer's window queries.
int64_t WindowBytes(const KvPlan& plan, const SelectionConfig& config, const HeadSplit& heads,
                    const Backend& backend) {
  return int64_t{heads.q_count} * config.window * plan.head_dim * ElementSize(backend.dtype());
}

}  // namespace

// Bytes of every device buffer.
struct ClaaState::Sizes {
  int64_t window_q, window_lse, gathered_q, layer_scores, best, positions, head_positions;
  int64_t workspace;

  Sizes(const KvPlan& plan, const SelectionConfig& config, const HeadSplit& heads,
        const Backend& backend, int num_ranks) {
    constexpr int64_t kInt = sizeof(int32_t), kFloat = sizeof(float);
    const int64_t num_scored = plan.pivot_layer - plan.first_scored_layer + 1;
    const int64_t q_heads = heads.q_count, kv_heads = heads.kv_count, kept = plan.num_kept;
    const int64_t window = WindowBytes(plan, config, heads, backend);
    window_q = num_scored * window;
    window_lse = num_scored * q_heads * (plan.num_prompt_tokens - plan.window_begin) * kFloat;
    gathered_q = heads.sharing_ranks > 1 ? num_ranks * window : 0;
    layer_scores = kv_heads * plan.window_begin * kFloat;
    best = (plan.window_begin + 1) * kFloat;
    positions = kept * kInt;
    head_positions = num_scored * kv_heads * kept * kInt;
    workspace =
        backend.WorkspaceBytes(WindowScoresParams{.dtype = backend.dtype(),
                                                  .window_begin = plan.window_begin,
                                                  .capacity = plan.num_prompt_tokens,
                                                  .window = config.window,
                                                  .pool_kernel = config.pool_kernel,
                                                  .q_heads = heads.q_count * heads.sharing_ranks,
                                                  .kv_heads = heads.kv_count,
                                                  .head_dim = plan.head_dim});
  }
};

int64_t ClaaState::DeviceBytes(const KvPlan& plan, const SelectionConfig& config,
                               const HeadSplit& heads, const Backend& backend, int num_ranks) {
  const Sizes s(plan, config, heads, backend, num_ranks);
  return s.window_q + s.window_lse + s.gathered_q + s.layer_scores + s.best + s.positions +
         s.head_positions + s.workspace;
}

absl::StatusOr<std::unique_ptr<ClaaState>> ClaaState::Create(const KvPlan& plan,
                                                             const SelectionConfig& config,
                                                             const HeadSplit& heads,
                                                             Backend& backend,
                                                             Communicator& communicator) {
  auto state =
      std::unique_ptr<ClaaState>(new ClaaState(plan, config, heads, backend, communicator));
  WINNOW_RETURN_IF_ERROR(state->Allocate());
  return state;
}

int64_t ClaaState::window_bytes() const { return WindowBytes(plan_, config_, heads_, backend_); }

absl::Status ClaaState::Allocate() {
  const int64_t window_begin = plan_.window_begin;
  const Sizes sizes(plan_, config_, heads_, backend_, communicator_.size());
  WINNOW_ASSIGN_OR_RETURN(window_q_, backend_.Allocate(sizes.window_q));
  WINNOW_ASSIGN_OR_RETURN(window_lse_, backend_.Allocate(sizes.window_lse));
  WINNOW_ASSIGN_OR_RETURN(gathered_q_, backend_.Allocate(sizes.gathered_q));
  WINNOW_ASSIGN_OR_RETURN(layer_scores_, backend_.Allocate(sizes.layer_scores));
  WINNOW_ASSIGN_OR_RETURN(best_, backend_.Allocate(sizes.best));
  WINNOW_ASSIGN_OR_RETURN(positions_, backend_.Allocate(sizes.positions));
  WINNOW_ASSIGN_OR_RETURN(head_positions_, backend_.Allocate(sizes.head_positions));
  WINNOW_ASSIGN_OR_RETURN(workspace_, backend_.Allocate(sizes.workspace));
  const std::vector<PositionSpan> spans = ProtectedSpans(config_, window_begin);
  num_spans_ = static_cast<int>(spans.size());
  WINNOW_ASSIGN_OR_RETURN(
      spans_, backend_.AllocateHost(std::max<size_t>(1, spans.size()) * 2 * sizeof(int32_t)));
  for (int i = 0; i < num_spans_; ++i) {
    spans_.data<int32_t>()[2 * i] = static_cast<int32_t>(spans[i].begin);
    spans_.data<int32_t>()[2 * i + 1] = static_cast<int32_t>(spans[i].end);
  }
  backend_.Fill(best_.data<float>(), -std::numeric_limits<float>::infinity(), window_begin);
  backend_.Fill(best_.data<float>() + window_begin, 0.0f, 1);
  return absl::OkStatus();
}

void ClaaState::CaptureWindow(int layer, const void* q, int64_t row_begin, int64_t rows) {
  const int64_t begin = std::max(row_begin, plan_.window_begin);
  const int64_t end = std::min(row_begin + rows, plan_.window_begin + config_.window);
  if (begin >= end) return;
  const int64_t q_stride = int64_t{heads_.q_count} * plan_.head_dim;
  const int64_t skip = (begin - row_begin) * q_stride * ElementSize(backend_.dtype());
  backend_.GatherWindow({.q = static_cast<const std::byte*>(q) + skip,
                         .out = window_q_.at((layer - plan_.first_scored_layer) * window_bytes()),
                         .dtype = backend_.dtype(),
                         .rows = end - begin,
                         .q_stride = q_stride,
                         .window_row = begin - plan_.window_begin,
                         .window = config_.window,
                         .q_heads = heads_.q_count,
                         .head_dim = plan_.head_dim});
}

float* ClaaState::window_lse(int layer, int64_t row_begin) const {
  if (row_begin > plan_.window_begin || heads_.sharing_ranks > 1) return nullptr;
  return window_lse_.data<float>() +
         (layer - plan_.first_scored_layer) * int64_t{heads_.q_count} * rows_from_window();
}

absl::Status ClaaState::ScoreLayer(int layer, const void* keys, const float* lse,
                                   Deadline deadline) {
  const void* window = window_q_.at((layer - plan_.first_scored_layer) * window_bytes());
  int q_heads = heads_.q_count;
  if (heads_.sharing_ranks > 1) {
    // Ranks that share a KV head are neighbours, so their part of the gathered queries is the
    // group's, in head order.
    WINNOW_RETURN_IF_ERROR(
        communicator_.AllGather(window, gathered_q_.data(), window_bytes(), deadline));
    window = gathered_q_.at(int64_t{heads_.kv_begin} * heads_.sharing_ranks * window_bytes());
    q_heads *= heads_.sharing_ranks;
  }
  const int64_t window_begin = plan_.window_begin;
  backend_.WindowScores({.q = window,
                         .k = keys,
                         .scores = layer_scores_.data<float>(),
                         .lse = lse,
                         .lse_stride = rows_from_window(),
                         .dtype = backend_.dtype(),
                         .window_begin = window_begin,
                         .capacity = plan_.num_prompt_tokens,
                         .window = config_.window,
                         .pool_kernel = config_.pool_kernel,
                         .q_heads = q_heads,
                         .kv_heads = heads_.kv_count,
                         .head_dim = plan_.head_dim},
                        workspace_.data());
  if (layer >= plan_.first_aggregated_layer) {
    backend_.MaxScores({.scores = layer_scores_.data<float>(),
                        .best = best_.data<float>(),
                        .nan = best_.data<float>() + window_begin,
                        .rows = heads_.kv_count,
                        .count = window_begin});
  }
  if (plan_.form(layer) == KvLayerForm::kPerHead) {
    SelectTokensParams params = select_params();
    params.scores = layer_scores_.data<float>();
    params.positions = head_positions(layer);
    params.rows = heads_.kv_count;
    backend_.SelectTokens(params);
  }
  return absl::OkStatus();
}

absl::Status ClaaState::Reduce(Deadline deadline) {
  if (communicator_.size() == 1) return absl::OkStatus();
  return communicator_.AllReduceMax(best_.data<float>(), plan_.window_begin + 1, deadline);
}

void ClaaState::Select() {
  SelectTokensParams params = select_params();
  params.scores = best_.data<float>();
  params.positions = positions_.data<int32_t>();
  params.rows = 1;
  backend_.SelectTokens(params);
}

SelectTokensParams ClaaState::select_params() const {
  return {.spans = spans_.data<int32_t>(),
          .nan = best_.data<float>() + plan_.window_begin,
          .window_begin = plan_.window_begin,
          .num_tokens = plan_.num_prompt_tokens,
          .num_kept = plan_.num_kept,
          .num_spans = num_spans_};
}

absl::Status SelectionMismatch(uint64_t digest_of_rank_0, uint64_t digest, int rank) {
  absl::Status status = absl::InternalError(absl::StrCat(
      "prefill: ranks disagree about the selection: digest ", absl::Hex(digest_of_rank_0),
      " on rank 0, ", absl::Hex(digest), " on rank ", rank));
  status.SetPayload(kMismatchPayload, absl::Cord());
  return status;
}

bool IsSelectionMismatch(const absl::Status& status) {
  return status.GetPayload(kMismatchPayload).has_value();
}

uint64_t SelectionDigest(const std::vector<int32_t>& positions) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a over 32-bit words, finished by a multiply-xor mix
  for (int32_t position : positions)
    hash = (hash ^ static_cast<uint32_t>(position)) * 0x100000001B3u;
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93u;
  return hash ^ (hash >> 32);
}

}  // namespace winnow
