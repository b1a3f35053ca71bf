#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/kv/kv_staging.h"
#include "plan/sampling_params.h"
#include "prefill_worker/prefill_job.h"

namespace winnow {

// Keeps the KV of prompts that were computed but could not be handed over, for a Resend, within a
// number of bytes and a time; the oldest entry goes first. Not thread-safe.
class RetainedKv {
 public:
  struct Options {
    int64_t max_bytes = int64_t{1} << 30;
    absl::Duration max_age = absl::Seconds(30);
  };
  struct Entry {
    std::shared_ptr<KvStaging> staging;
    std::vector<int32_t> tokens;
    SamplingParams sampling;
    PrefillSummary summary;
  };

  explicit RetainedKv(Options options) : options_(options) {}

  // Replaces an entry of the same request. An entry larger than the whole bound is not kept.
  void Put(const std::string& request_id, Entry entry, absl::Time now);
  std::optional<Entry> Find(const std::string& request_id, absl::Time now);
  void Erase(const std::string& request_id);
  // Drops entries that are too old or too large in sum. Put and Find do so, too; call it while
  // nothing else happens.
  void Trim(absl::Time now);
  int64_t bytes() const { return bytes_; }

 private:
  struct Stored {
    Entry entry;
    absl::Time since;
  };

  const Options options_;
  std::map<std::string, Stored> entries_;
  int64_t bytes_ = 0;
};

}  // namespace winnow
