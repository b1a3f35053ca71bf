#include "wire/kv_plan_proto.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "plan/wire_version.h"
#include "wire/field_checks.h"
#include "wire/kv_plan_v2.h"

namespace winnow {
namespace {

constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();  // positions are int32

v1::KvForm ToProto(KvForm form) {
  switch (form) {
    case KvForm::kAll:
      return v1::KV_FORM_ALL;
    case KvForm::kPerHead:
      return v1::KV_FORM_PER_HEAD;
    case KvForm::kSelected:
      return v1::KV_FORM_SELECTED;
  }
  return v1::KV_FORM_UNSPECIFIED;
}

absl::StatusOr<KvForm> FromProto(v1::KvForm form) {
  switch (form) {
    case v1::KV_FORM_ALL:
      return KvForm::kAll;
    case v1::KV_FORM_PER_HEAD:
      return KvForm::kPerHead;
    case v1::KV_FORM_SELECTED:
      return KvForm::kSelected;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("kv_plan.segments: form ", static_cast<int>(form), " is unknown"));
  }
}

absl::Status CheckSizesFit(const KvPlan& plan) {
  constexpr int kLargestElement = 4;
  int64_t bytes = plan.num_prompt_tokens;
  for (int64_t factor : {plan.num_layers, plan.num_kv_heads, plan.head_dim, 2 * kLargestElement}) {
    if (__builtin_mul_overflow(bytes, factor, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "kv_plan: ", plan.num_prompt_tokens, " tokens x ", plan.num_layers, " layers x ",
          plan.num_kv_heads, " heads x ", plan.head_dim, " elements do not fit 64 bits"));
    }
  }
  return absl::OkStatus();
}

// A list of positions has room for its tail and is shorter than the prompt.
absl::Status CheckSegment(const KvPlan& plan, const KvSegment& segment) {
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.segments.num_layers", segment.num_layers, 1, plan.num_layers));
  const int64_t tail = plan.num_prompt_tokens - plan.tail_begin;
  const int64_t least = segment.form == KvForm::kAll ? 1 : std::max<int64_t>(1, tail);
  return CheckFieldRange("kv_plan.segments.entries", segment.entries, least,
                         plan.num_prompt_tokens);
}

absl::StatusOr<KvPlan> ReadSegments(const v1::KvPlan& message, KvPlan plan) {
  plan.next_position = message.next_position();
  plan.tail_begin = message.tail_begin();
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.tail_begin", plan.tail_begin, 0, plan.num_prompt_tokens));
  int layers = 0;
  for (const v1::KvSegment& segment : message.segments()) {
    WINNOW_ASSIGN_OR_RETURN(const KvForm form, FromProto(segment.form()));
    plan.segments.push_back({segment.num_layers(), form, segment.entries()});
    WINNOW_RETURN_IF_ERROR(CheckSegment(plan, plan.segments.back()));
    layers += segment.num_layers();
    WINNOW_RETURN_IF_ERROR(
        CheckFieldRange("kv_plan.segments, layers in all", layers, 1, plan.num_layers));
    // No token may enter before what is stored.
    const bool implied = form == KvForm::kAll;
    const int64_t lowest = implied ? segment.entries() : plan.num_prompt_tokens;
    WINNOW_RETURN_IF_ERROR(
        CheckFieldRange("kv_plan.next_position", plan.next_position, lowest, kMaxInt32));
  }
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.segments, layers in all", layers, plan.num_layers, plan.num_layers));
  return plan;
}

}  // namespace

uint32_t OldestWireVersionFor(const KvPlan& plan) {
  return HasV2Form(plan) ? kOldestWireVersion : kWireVersion;
}

v1::KvPlan ToProto(const KvPlan& plan) {
  v1::KvPlan out;
  out.set_num_prompt_tokens(plan.num_prompt_tokens);
  out.set_num_layers(plan.num_layers);
  out.set_num_kv_heads(plan.num_kv_heads);
  out.set_head_dim(plan.head_dim);
  if (HasV2Form(plan)) AddV2Fields(plan, &out);
  if constexpr (kWireVersion < 3) return out;
  for (const KvSegment& segment : plan.segments) {
    v1::KvSegment* added = out.add_segments();
    added->set_num_layers(segment.num_layers);
    added->set_form(ToProto(segment.form));
    added->set_entries(segment.entries);
  }
  out.set_next_position(plan.next_position);
  out.set_tail_begin(plan.tail_begin);
  return out;
}

absl::StatusOr<KvPlan> FromProto(const v1::KvPlan& message) {
  KvPlan plan{.num_prompt_tokens = message.num_prompt_tokens(),
              .num_layers = message.num_layers(),
              .num_kv_heads = message.num_kv_heads(),
              .head_dim = message.head_dim()};
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.num_prompt_tokens", plan.num_prompt_tokens, 1, kMaxInt32));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.num_layers", plan.num_layers, 1, 1 << 16));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.num_kv_heads", plan.num_kv_heads, 1, 1 << 16));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.head_dim", plan.head_dim, 1, 1 << 16));
  WINNOW_RETURN_IF_ERROR(CheckSizesFit(plan));
  const bool has_segments = kWireVersion >= 3 && message.segments_size() > 0;
  return has_segments ? ReadSegments(message, std::move(plan))
                      : ReadV2Fields(message, std::move(plan));
}

}  // namespace winnow
