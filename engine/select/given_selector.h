#pragma once

#include <memory>
#include <vector>

#include "engine/select/token_selector.h"

namespace winnow {

// Rows that are known before any layer runs: no scores, no collective.
class GivenSelector : public TokenSelector {
 public:
  // `rows`: by pass, ascending, as many as the pass has, each one of its source's; empty for a pass
  // that runs them all. RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<GivenSelector>> Create(
      const SelectorContext& context, const std::vector<std::vector<int32_t>>& rows);
  static int64_t DeviceBytes(const PrefillPlan& plan);

  int64_t first_query_row() const override { return 0; }
  void OnQueries(int, const void*, int64_t, int64_t) override {}
  float* attention_lse(int, int64_t) const override { return nullptr; }
  absl::Status OnKeys(int, const void*, const float*, Deadline) override {
    return absl::OkStatus();
  }
  absl::Status Reduce(int, Deadline) override { return absl::OkStatus(); }
  void Select(int) override {}
  const int32_t* rows(int pass) const override { return passes_[pass].rows.device.data<int32_t>(); }
  const int32_t* positions(int pass) const override {
    return passes_[pass].positions.device.data<int32_t>();
  }
  const int32_t* head_positions(int) const override { return nullptr; }
  void CopyResults() override {}
  absl::Status Check() const override { return absl::OkStatus(); }
  absl::Span<const int32_t> kept_positions() const override { return kept_; }
  absl::Span<const float> scores() const override { return {}; }

 private:
  // [num_rows] int32; the host's memory lives as long as the copy to the device may need it.
  struct List {
    Buffer host, device;
  };
  struct Pass {
    List rows, positions;
  };
  static absl::StatusOr<List> Upload(Backend& backend, const std::vector<int32_t>& values);

  std::vector<Pass> passes_;
  std::vector<int32_t> kept_;  // of the last selected pass
};

}  // namespace winnow
