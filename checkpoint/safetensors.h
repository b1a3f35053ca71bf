#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace winnow {

class MappedFile;

// One tensor of a checkpoint, as its file's header describes it.
struct TensorInfo {
  std::string name;
  std::string dtype;  // "BF16", "F16", "F32", …
  std::vector<int64_t> shape;
  std::string file;  // path of the file that holds it
  size_t begin = 0;  // bytes [begin, end) of that file
  size_t end = 0;
};

// All tensors of a model folder (model.safetensors, or the shards of model.safetensors.index.json),
// memory-mapped: a page is read when it is touched, so a rank pays only for its shard. Spans live
// as long as the Checkpoint. Thread-safe.
class Checkpoint {
 public:
  // NOT_FOUND: no checkpoint in the folder, or the index names an absent file. INVALID_ARGUMENT: a
  // header that is truncated, longer than its file or 100 MB, not JSON, with overlapping or
  // out-of-file offsets, an unknown dtype, a byte count that contradicts dtype and shape, a tensor
  // named twice (also across files), or one that the index promises and the file lacks; the text
  // names file and tensor.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& model_dir);
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  // NOT_FOUND names the tensor; INVALID_ARGUMENT when its shape is not `shape`.
  absl::StatusOr<const TensorInfo*> Find(const std::string& name,
                                         const std::vector<int64_t>& shape) const;
  absl::Span<const std::byte> Data(const TensorInfo& tensor) const;

  // Hex digest (128 bits) over name, dtype and shape of every tensor and a few bytes of its data,
  // so that another fine-tuning of the same architecture differs too: the model's revision in the
  // layout digest. Does not depend on paths or on how the tensors are spread over files.
  const std::string& revision() const { return revision_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  int64_t total_bytes() const;

 private:
  Checkpoint();
  // Maps one file and adds its tensors.
  absl::Status AddFile(const std::string& path);
  std::map<std::string, std::unique_ptr<MappedFile>> files_;
  std::map<std::string, TensorInfo> tensors_;
  std::string revision_;
};

}  // namespace winnow
