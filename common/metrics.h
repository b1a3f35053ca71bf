#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace winnow {

// The histogram grids of docs/design.md §7, so that one query spans all binaries.
namespace metric_grids {
std::vector<double> Latency();     // G1, seconds: 5 ms … 300 s
std::vector<double> InterToken();  // G2, seconds: 1 ms … 5 s
std::vector<double> Stages();      // G3, seconds: 10 µs … 5 s in 1-2.5-5 steps
std::vector<double> Bytes();       // G4: 2^16 … 2^34 by 4
std::vector<double> Tokens();      // G5: 1-2-5 to 1e6
std::vector<double> Ratio();       // G6: 0.05 steps
}  // namespace metric_grids

// Owns the metrics of one process. A binary has one struct (router_metrics.h, …) that makes its
// metrics here, every label value up front, so that all of them are exported as zero before
// anything happened. Thread-safe.
class MetricsRegistry {
 public:
  using Labels = std::map<std::string, std::string>;

  // `component` is a label of every metric and tells this program's from those of others.
  explicit MetricsRegistry(const std::string& component = "") {
    if (!component.empty()) common_["component"] = component;
  }

  prometheus::Counter& Counter(const std::string& name, const std::string& help,
                               const Labels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help,
                           const Labels& labels = {});
  prometheus::Histogram& Histogram(const std::string& name, const std::string& help,
                                   const std::vector<double>& bounds, const Labels& labels = {});

  // Prometheus text format of all metrics.
  std::string Serialize() const;

 private:
  Labels common_;
  prometheus::Registry registry_;
};

// winnow_build_info: 1, with the version and the devices this program was built for.
void ExportBuildInfo(MetricsRegistry& registry);

// winnow_model_info: 1, with the layout digest of the model that a worker serves and its selection
// profile (as JSON; its quotes and braces are left out).
void ExportModelInfo(MetricsRegistry& registry, const std::string& digest, std::string profile);

// winnow_requests_total{code}: how requests ended, by status.
class RequestCounter {
 public:
  explicit RequestCounter(MetricsRegistry& registry);
  void Count(absl::StatusCode code);

 private:
  std::map<absl::StatusCode, prometheus::Counter*> by_code_;
};

}  // namespace winnow
