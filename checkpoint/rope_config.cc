#include "checkpoint/rope_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

absl::StatusOr<RopeConfig::Type> ReadType(const ConfigFields& scaling) {
  for (const char* field : {"rope_type", "type"}) {
    const auto* type = scaling.Get(field);
    if (type == nullptr) continue;
    WINNOW_RETURN_IF_ERROR(scaling.OneOf(field, {"default", "linear", "llama3", "yarn"}));
    if (*type == "linear") return RopeConfig::Type::kLinear;
    if (*type == "llama3") return RopeConfig::Type::kLlama3;
    if (*type == "yarn") return RopeConfig::Type::kYarn;
    break;
  }
  return RopeConfig::Type::kDefault;
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

absl::StatusOr<double> ReadYarnAttentionFactor(const ConfigFields& scaling, double factor) {
  if (scaling.Get("attention_factor") != nullptr) return scaling.PositiveNumber("attention_factor");
  if (scaling.Get("mscale") == nullptr || scaling.Get("mscale_all_dim") == nullptr) {
    return YarnScale(factor, 1.0);
  }
  WINNOW_ASSIGN_OR_RETURN(const double mscale, scaling.PositiveNumber("mscale"));
  WINNOW_ASSIGN_OR_RETURN(const double all_dim, scaling.PositiveNumber("mscale_all_dim"));
  return YarnScale(factor, mscale) / YarnScale(factor, all_dim);
}

absl::Status ReadScaling(const ConfigFields& scaling, int64_t max_context, RopeConfig* rope) {
  if (const auto* part = scaling.Get("partial_rotary_factor"); part != nullptr && *part != 1.0) {
    return scaling.Unsupported("partial_rotary_factor", *part, "1");
  }
  for (const char* field : {"full_attention", "sliding_attention"}) {
    const auto* of_some_layers = scaling.Get(field);
    if (of_some_layers != nullptr) return scaling.Unsupported(field, *of_some_layers, "absent");
  }
  WINNOW_ASSIGN_OR_RETURN(rope->type, ReadType(scaling));
  if (rope->type == RopeConfig::Type::kDefault) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(rope->factor, scaling.PositiveNumber("factor"));
  if (rope->type == RopeConfig::Type::kLinear) return absl::OkStatus();
  if (rope->type == RopeConfig::Type::kLlama3) {
    WINNOW_ASSIGN_OR_RETURN(rope->original_context,
                            scaling.Positive("original_max_position_embeddings"));
    WINNOW_ASSIGN_OR_RETURN(rope->low_freq_factor, scaling.PositiveNumber("low_freq_factor"));
    WINNOW_ASSIGN_OR_RETURN(rope->high_freq_factor, scaling.PositiveNumber("high_freq_factor"));
    if (rope->high_freq_factor > rope->low_freq_factor) return absl::OkStatus();
    return scaling.Bad("high_freq_factor ", rope->high_freq_factor,
                       " must be above low_freq_factor ", rope->low_freq_factor);
  }
  WINNOW_ASSIGN_OR_RETURN(rope->original_context,
                          scaling.Positive("original_max_position_embeddings", max_context));
  WINNOW_ASSIGN_OR_RETURN(rope->beta_fast, scaling.PositiveNumber("beta_fast", rope->beta_fast));
  WINNOW_ASSIGN_OR_RETURN(rope->beta_slow, scaling.PositiveNumber("beta_slow", rope->beta_slow));
  if (scaling.Get("truncate") != nullptr) {
    WINNOW_ASSIGN_OR_RETURN(rope->truncate, scaling.Bool("truncate"));
  }
  WINNOW_ASSIGN_OR_RETURN(rope->attention_factor, ReadYarnAttentionFactor(scaling, rope->factor));
  return absl::OkStatus();
}

// Long waves are slowed by `factor`, short ones are not, those between partly.
double Llama3Speed(const RopeConfig& rope, double speed) {
  const auto original = static_cast<double>(rope.original_context);
  const double wavelength = kTwoPi / speed;
  if (wavelength > original / rope.low_freq_factor) return speed / rope.factor;
  if (wavelength < original / rope.high_freq_factor) return speed;
  const double smooth = (original / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * speed / rope.factor + smooth * speed;
}

// Dimensions that turn more than beta_fast times within the original context keep their speed,
// those below beta_slow turns are slowed, with a ramp between.
class YarnRamp {
 public:
  YarnRamp(const RopeConfig& rope, int head_dim) {
    const auto dimension = [&](double turns) {
      return head_dim * std::log(static_cast<double>(rope.original_context) / (turns * kTwoPi)) /
             (2 * std::log(rope.theta));
    };
    low_ = dimension(rope.beta_fast);
    high_ = dimension(rope.beta_slow);
    if (rope.truncate) {
      low_ = std::floor(low_);
      high_ = std::ceil(high_);
    }
    low_ = std::max(low_, 0.0);
    high_ = std::min(high_, head_dim - 1.0);
    if (low_ == high_) high_ += 0.001;
  }
  // 0: keeps its speed, 1: slowed.
  double operator()(int c) const { return std::clamp((c - low_) / (high_ - low_), 0.0, 1.0); }

 private:
  double low_, high_;
};

}  // namespace

absl::StatusOr<RopeConfig> ReadRopeConfig(const ConfigFields& fields, int64_t max_context) {
  RopeConfig rope;
  WINNOW_ASSIGN_OR_RETURN(rope.theta, fields.PositiveNumber("rope_theta", rope.theta));
  for (const char* field : {"rope_scaling", "rope_parameters"}) {
    if (fields.Get(field) == nullptr) continue;
    WINNOW_ASSIGN_OR_RETURN(const ConfigFields scaling, fields.Object(field));
    WINNOW_ASSIGN_OR_RETURN(rope.theta, scaling.PositiveNumber("rope_theta", rope.theta));
    WINNOW_RETURN_IF_ERROR(ReadScaling(scaling, max_context, &rope));
  }
  return rope;
}

std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int head_dim) {
  const YarnRamp ramp(rope, head_dim);
  std::vector<float> speeds(head_dim / 2);
  for (int c = 0; c < head_dim / 2; ++c) {
    double speed = std::pow(rope.theta, -2.0 * c / head_dim);
    switch (rope.type) {
      case RopeConfig::Type::kDefault:
        break;
      case RopeConfig::Type::kLinear:
        speed /= rope.factor;
        break;
      case RopeConfig::Type::kLlama3:
        speed = Llama3Speed(rope, speed);
        break;
      case RopeConfig::Type::kYarn:
        speed = ramp(c) * speed / rope.factor + (1 - ramp(c)) * speed;
        break;
    }
    speeds[c] = static_cast<float>(speed);
  }
  return speeds;
}

}  // namespace winnow
