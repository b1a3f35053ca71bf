#include "engine/device/ref_backend.h"

#include <vector>

namespace winnow {
namespace {

class RefWeight final : public PackedWeight {
 public:
  explicit RefWeight(const MatmulWeight& weight) : weight_(weight) {
    const auto* data = static_cast<const std::byte*>(weight.data);
    data_.assign(data, data + weight.out_features * weight.in_features * ElementSize(weight.dtype));
    weight_.data = data_.data();
  }
  int64_t out_features() const override { return weight_.out_features; }
  int64_t in_features() const override { return weight_.in_features; }
  const MatmulWeight& weight() const { return weight_; }

 private:
  std::vector<std::byte> data_;
  MatmulWeight weight_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PackedWeight>> RefBackend::Pack(const MatmulWeight& weight) {
  return std::make_unique<RefWeight>(weight);
}

void RefBackend::Matmul(const PackedWeight& weight, const MatmulParams& params) {
  MatmulRef(static_cast<const RefWeight&>(weight).weight(), params);
}

}  // namespace winnow
