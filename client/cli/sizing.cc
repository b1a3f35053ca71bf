#include "client/cli/sizing.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace winnow {
namespace {

constexpr double kMostWorkers = 10'000;

template <typename Fn>
double Mean(const SizedLoad& load, Fn value) {
  double sum = 0;
  for (const RequestClass& c : load.classes) sum += c.share * value(c);
  return sum;
}

double MeanPrefill(const SizedLoad& load) {
  return Mean(load, [](const RequestClass& c) { return c.prefill_seconds; });
}

// How many deviations above its mean a normal variable is at `quantile`, by halving.
double NormalQuantile(double quantile) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < quantile ? low : high) = middle;
  }
  return low;
}

int64_t AtLeastOne(double count) {
  return std::max(int64_t{1}, static_cast<int64_t>(std::ceil(count)));
}

// Erlang's C: the share of requests that find all of `workers` busy, when `busy` of them are on
// average.
double WaitingShare(int64_t workers, double busy) {
  double blocked = 1;  // Erlang's B, from one worker to the next
  for (int64_t k = 1; k <= workers; ++k) {
    blocked = busy * blocked / (static_cast<double>(k) + busy * blocked);
  }
  const double utilisation = busy / static_cast<double>(workers);
  return blocked / (1 - utilisation * (1 - blocked));
}

}  // namespace

double QueueWait(const SizedLoad& load, int64_t workers, double quantile) {
  const double mean = MeanPrefill(load), busy = load.rate * mean;
  const double waiting = WaitingShare(workers, busy);
  if (waiting <= 1 - quantile) return 0;
  const double mean_square =
      Mean(load, [](const RequestClass& c) { return c.prefill_seconds * c.prefill_seconds; });
  // Of those who wait, exactly so for one worker: E[S²] / 2E[S] (c − busy).
  const double mean_wait = mean_square / (2 * mean * (static_cast<double>(workers) - busy));
  return mean_wait * std::log(waiting / (1 - quantile));
}

absl::StatusOr<PrefillSize> SizePrefill(const SizedLoad& load, double ttft_seconds, double quantile,
                                        double max_utilisation) {
  double longest = 0;
  for (const RequestClass& c : load.classes) longest = std::max(longest, c.prefill_seconds);
  if (longest > ttft_seconds) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the longest prompt takes %.3f s on a worker of its own, more than the "
                        "%.3f s asked for: more "
                        "workers do not help, a lower keep ratio or more ranks do",
                        longest, ttft_seconds));
  }
  const double busy_workers = load.rate * MeanPrefill(load);
  if (busy_workers > kMostWorkers) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the load would keep %.0f prefill workers busy", busy_workers));
  }
  const auto wait = [&](int64_t workers) { return QueueWait(load, workers, quantile); };
  int64_t workers = AtLeastOne(busy_workers / max_utilisation);
  // So many that none of those who count waits.
  int64_t enough = std::max(workers, AtLeastOne(busy_workers / (1 - quantile)));
  while (workers < enough) {
    const int64_t middle = workers + (enough - workers) / 2;
    if (wait(middle) + longest <= ttft_seconds) {
      enough = middle;
    } else {
      workers = middle + 1;
    }
  }
  return PrefillSize{.workers = workers,
                     .utilisation = busy_workers / static_cast<double>(workers),
                     .wait_seconds = wait(workers),
                     .ttft_seconds = wait(workers) + longest};
}

absl::StatusOr<DecodeSize> SizeDecode(const SizedLoad& load, double generation_seconds,
                                      int max_batch, double kv_bytes, double quantile) {
  // Little: as many are there at a time as come in the time that one stays. Their number is
  // Poisson's.
  double sequences = 0, bytes = 0, bytes_variance = 0;
  for (const RequestClass& c : load.classes) {
    if (c.kv_bytes > kv_bytes) {
      return absl::FailedPreconditionError(
          absl::StrFormat("a sequence reserves %.3f GiB, more than the %.3f GiB of a decode worker",
                          c.kv_bytes / (1 << 30), kv_bytes / (1 << 30)));
    }
    const double present = load.rate * c.share * (c.prefill_seconds + generation_seconds);
    sequences += present;
    bytes += present * c.kv_bytes;
    bytes_variance += present * c.kv_bytes * c.kv_bytes;
  }
  const double deviations = NormalQuantile(quantile);
  DecodeSize size{.sequences = sequences + deviations * std::sqrt(sequences),
                  .kv_bytes = bytes + deviations * std::sqrt(bytes_variance)};
  const int64_t for_batch = AtLeastOne(size.sequences / max_batch);
  const int64_t for_memory = AtLeastOne(size.kv_bytes / kv_bytes);
  size.workers = std::max(for_batch, for_memory);
  size.is_memory_bound = for_memory > for_batch;
  return size;
}

}  // namespace winnow
