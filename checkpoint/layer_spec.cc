#include "checkpoint/layer_spec.h"

#include "common/status_macros.h"

namespace winnow {
namespace {

using Json = ConfigFields::Json;

absl::StatusOr<AttentionSpec> ReadAttention(const ConfigFields& fields, AttentionSpec attention,
                                            bool has_window, const ModelShape& shape) {
  // Families whose projections have biases have them always; in the others the field adds some
  // that the engine would leave out.
  for (const char* field : {"attention_bias", "use_sliding_window"}) {
    WINNOW_ASSIGN_OR_RETURN(const bool on, fields.Bool(field));
    if (on) return fields.Unsupported(field, true, "false");
  }
  if (const Json* part = fields.Get("partial_rotary_factor"); part != nullptr && *part != 1.0) {
    return fields.Unsupported("partial_rotary_factor", *part, "1");
  }
  attention.rotary_dims = shape.head_dim;
  if (has_window && fields.Get("sliding_window") != nullptr) {
    WINNOW_ASSIGN_OR_RETURN(attention.window, fields.Positive("sliding_window"));
  }
  return attention;
}

absl::StatusOr<FeedForwardSpec> ReadFeedForward(const ConfigFields& fields,
                                                FeedForwardSpec feed_forward) {
  WINNOW_RETURN_IF_ERROR(fields.OneOf("hidden_act", {"silu"}));
  WINNOW_ASSIGN_OR_RETURN(const bool has_bias, fields.Bool("mlp_bias"));
  if (has_bias) return fields.Unsupported("mlp_bias", true, "false");
  if (feed_forward.kind == FeedForwardKind::kExperts) {
    return fields.Bad("field 'model_type' is ", fields.Get("model_type")->dump(),
                      ": feed-forward layers of experts are not supported");
  }
  for (const char* field : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    const Json* experts = fields.Get(field);
    if (experts == nullptr || *experts == 0) continue;
    return fields.Unsupported(field, *experts,
                              "absent (feed-forward layers of experts are not supported)");
  }
  return feed_forward;
}

}  // namespace

absl::StatusOr<std::vector<LayerSpec>> ReadLayers(const ConfigFields& fields,
                                                  const LayerSpec& common, bool has_window,
                                                  const ModelShape& shape) {
  LayerSpec layer = common;
  WINNOW_ASSIGN_OR_RETURN(layer.attention,
                          ReadAttention(fields, common.attention, has_window, shape));
  WINNOW_ASSIGN_OR_RETURN(layer.feed_forward, ReadFeedForward(fields, common.feed_forward));
  return std::vector<LayerSpec>(shape.num_layers, layer);
}

}  // namespace winnow
