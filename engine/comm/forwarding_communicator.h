#pragma once

#include "engine/comm/communicator.h"

namespace winnow {

// Another one's calls, for whoever changes or watches some of them.
class ForwardingCommunicator : public Communicator {
 public:
  // `inner` must outlive it.
  explicit ForwardingCommunicator(Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    return inner_.AllReduceSum(data, dtype, count, deadline);
  }
  absl::Status BeginSum(const Sum& sum, Deadline deadline) override {
    return inner_.BeginSum(sum, deadline);
  }
  absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline deadline) override {
    return inner_.JoinSum(sum, deadline);
  }
  int64_t min_overlap_elements() const override { return inner_.min_overlap_elements(); }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    return inner_.AllReduceMax(data, count, deadline);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    return inner_.AllGather(in, out, bytes, deadline);
  }
  void Abort(const absl::Status& reason) override { inner_.Abort(reason); }

 private:
  Communicator& inner_;
};

}  // namespace winnow
