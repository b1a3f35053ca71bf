#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/deadline.h"
#include "engine/device/buffer.h"
#include "engine/device/model_types.h"
#include "kernels/argmax.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/gated_act.h"
#include "kernels/gated_matmul.h"
#include "kernels/gather_rows.h"
#include "kernels/matmul.h"
#include "kernels/paged_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/select_tokens.h"
#include "kernels/types.h"
#include "kernels/window_scores.h"

namespace winnow {

// A point in a Backend's queue. Copyable handle; thread-safe.
class Event {
 public:
  virtual ~Event() = default;
  virtual bool IsDone() const = 0;
  // Waits on the host. OK, DEADLINE_EXCEEDED, or the queue's deferred error.
  virtual absl::Status Wait(const Clock& clock, Deadline deadline) = 0;
};
using EventPtr = std::shared_ptr<Event>;

// When a Backend's queue came to a point.
class Moment {
 public:
  virtual ~Moment() = default;
  // Of an earlier one of the same queue. REQUIRES: the queue has passed this one.
  virtual double SecondsSince(const Moment& earlier) const = 0;
};
using MomentPtr = std::unique_ptr<Moment>;

// A weight in the backend's own layout.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t out_features() const = 0;
  virtual int64_t in_features() const = 0;
};

// One rank's device: its memory, its in-order queue, and the ops that run on it. Calls enqueue and
// return; what they point to must live until an Event recorded later is done. Pointers in params
// are device memory, but for `host_*`. Errors of the device are deferred: Record's event reports
// them. Used by one thread at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  // Device.

  virtual std::string name() const = 0;  // "cpu", "cpu-ref", "cuda"
  virtual ModelTypes types() const = 0;
  DType dtype() const { return types().activations; }  // of the rows that ops read and write
  // The first asynchronous device error, or OK. Sticky: the failed work did not run, and every
  // later Event returns this error. Thread-safe.
  virtual absl::Status Health() const { return absl::OkStatus(); }

  // Memory.

  // RESOURCE_EXHAUSTED says how much was asked for. Contents are undefined.
  virtual absl::StatusOr<Buffer> Allocate(size_t bytes) = 0;
  // Host memory that the device can copy to and from at full speed.
  virtual absl::StatusOr<Buffer> AllocateHost(size_t bytes) = 0;
  // Bytes that Allocate could give now, roughly; int64's end where nobody counts.
  virtual int64_t FreeBytes() const = 0;
  // Copies `weight` (host memory) into the backend's layout at once.
  virtual absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatmulWeight& weight) = 0;

  // Either side is device or AllocateHost memory.
  virtual void Copy(void* to, const void* from, size_t bytes) = 0;
  virtual void Fill(float* to, float value, int64_t count) = 0;

  // Both are done when they return and wait for nothing in the queue. Thread-safe. Errors are
  // deferred as the queue's are. `rows` rows of `width` bytes, from any host memory.
  virtual void WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride,
                        size_t width, size_t rows) = 0;
  virtual void ZeroNow(void* at, size_t bytes) = 0;

  // Copies out of the device overlap with the queue: each begins when all work enqueued before the
  // copy is done, and work enqueued later need not wait for the copy. So the source must not be
  // overwritten before an event that RecordOut gives later is done; freeing it is safe. Into
  // AllocateHost memory.
  virtual void CopyOut(void* to, const void* from, size_t bytes) = 0;
  // GatherRows whose out is such memory, [heads][rows][row_bytes], dense. `workspace`: as many
  // bytes of device memory; the next call must have another, the one after it may have the same.
  virtual void GatherRowsOut(const GatherRowsParams& params, void* workspace) = 0;

  // Events.

  // All work enqueued so far.
  virtual EventPtr Record() = 0;
  // All copies out so far, and with them all work enqueued before the last of these.
  virtual EventPtr RecordOut() = 0;
  // The moment at which all work enqueued so far is done.
  virtual MomentPtr Mark() = 0;
  // Runs `enqueue`, which enqueues the same calls on the same memory whenever `key` is the same and
  // waits for nothing. A backend may record them and play the recording from then on.
  virtual absl::Status Replay(int64_t key, const std::function<absl::Status()>& enqueue) {
    return enqueue();
  }

  // Ops. kernels/ defines each.

  virtual void Matmul(const PackedWeight& weight, const MatmulParams& params) = 0;
  virtual void Embedding(const EmbeddingParams& params) = 0;
  virtual void RmsNorm(const RmsNormParams& params) = 0;
  virtual void Rope(const RopeParams& params) = 0;
  virtual void StoreKv(const StoreKvParams& params) = 0;
  virtual void GatedAct(const GatedActParams& params) = 0;
  virtual void Attention(const AttentionParams& params) = 0;
  virtual void PagedStoreKv(const PagedStoreKvParams& params) = 0;
  // `workspace`: WorkspaceBytes(params) of device memory, all zero before its first use and left
  // fit for the next.
  virtual void PagedAttention(const PagedAttentionParams& params, void* workspace) = 0;
  virtual int64_t WorkspaceBytes(const PagedAttentionParams& params) const = 0;
  virtual void GatherWindow(const GatherWindowParams& params) = 0;
  // `workspace`: WorkspaceBytes(params) of device memory.
  virtual void WindowScores(const WindowScoresParams& params, void* workspace) = 0;
  virtual int64_t WorkspaceBytes(const WindowScoresParams& params) const = 0;
  virtual void MaxScores(const MaxScoresParams& params) = 0;
  virtual void SelectTokens(const SelectTokensParams& params) = 0;
  virtual void GatherRows(const GatherRowsParams& params) = 0;
  virtual void ArgMax(const ArgMaxParams& params) = 0;

  // Fusions: two ops in one. These defaults run them one after the other; a backend with a faster
  // kernel overrides.

  // Matmul, then Rope of all that it wrote, or StoreKv of it, whose own output is then undefined.
  virtual void MatmulRope(const PackedWeight& weight, const MatmulParams& params,
                          const RopeParams& rope);
  virtual void MatmulStoreKv(const PackedWeight& weight, const MatmulParams& params,
                             const StoreKvParams& store);
  // Matmul, then GatedAct. `workspace`: WorkspaceBytes(weight, params) of device memory.
  virtual void GatedMatmul(const PackedWeight& weight, const GatedMatmulParams& params,
                           void* workspace);
  // For as many rows as `params` has, or fewer.
  virtual int64_t WorkspaceBytes(const PackedWeight& weight, const GatedMatmulParams& params) const;
};

}  // namespace winnow
