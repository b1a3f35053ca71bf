#include "common/metrics.h"

#include "absl/strings/str_replace.h"
#include "common/version.h"
#include "prometheus/text_serializer.h"

namespace winnow {

namespace metric_grids {

std::vector<double> Latency() {
  return {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1,
          1.5,   2,    3,     5,    7.5,   10,  15,   20,  30,  60,  120, 300};
}

std::vector<double> InterToken() {
  return {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06,
          0.08,  0.1,    0.15,  0.2,    0.3,  0.5,   1,    2,    5};
}

std::vector<double> Stages() {
  return {1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3,
          1e-2, 2.5e-2, 5e-2, 0.1,  0.25,   0.5,  1,    2.5,    5};
}

std::vector<double> Bytes() {
  std::vector<double> bounds;
  for (int power = 16; power <= 34; power += 2)
    bounds.push_back(static_cast<double>(int64_t{1} << power));
  return bounds;
}

std::vector<double> Tokens() {
  std::vector<double> bounds;
  for (double decade = 1; decade < 1e6; decade *= 10) {
    for (double step : {1.0, 2.0, 5.0}) bounds.push_back(decade * step);
  }
  bounds.push_back(1e6);
  return bounds;
}

std::vector<double> Ratio() {
  std::vector<double> bounds;
  for (int i = 1; i <= 20; ++i) bounds.push_back(i / 20.0);
  return bounds;
}

}  // namespace metric_grids

prometheus::Counter& MetricsRegistry::Counter(const std::string& name, const std::string& help,
                                              const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Labels(common_).Register(registry_).Add(
      labels);
}

prometheus::Gauge& MetricsRegistry::Gauge(const std::string& name, const std::string& help,
                                          const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Labels(common_).Register(registry_).Add(
      labels);
}

prometheus::Histogram& MetricsRegistry::Histogram(const std::string& name, const std::string& help,
                                                  const std::vector<double>& bounds,
                                                  const Labels& labels) {
  return prometheus::BuildHistogram().Name(name).Help(help).Labels(common_).Register(registry_).Add(
      labels, bounds);
}

std::string MetricsRegistry::Serialize() const {
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

void ExportBuildInfo(MetricsRegistry& registry) {
  registry
      .Gauge("winnow_build_info", "1; this program's version and the devices it was built for.",
             {{"version", Version()}, {"devices", BuiltForDevices()}})
      .Set(1);
}

void ExportModelInfo(MetricsRegistry& registry, const std::string& digest, std::string profile) {
  profile = absl::StrReplaceAll(profile, {{"\"", ""}, {"{", ""}, {"}", ""}});
  registry
      .Gauge("winnow_model_info", "1; the model's layout digest and the selection profile.",
             {{"digest", digest}, {"profile", profile}})
      .Set(1);
}

RequestCounter::RequestCounter(MetricsRegistry& registry) {
  for (int number = 0; number <= 16; ++number) {
    const auto code = static_cast<absl::StatusCode>(number);
    by_code_[code] = &registry.Counter("winnow_requests_total", "Ended requests by status.",
                                       {{"code", absl::StatusCodeToString(code)}});
  }
}

void RequestCounter::Count(absl::StatusCode code) {
  const auto it = by_code_.find(code);
  (it == by_code_.end() ? by_code_.at(absl::StatusCode::kUnknown) : it->second)->Increment();
}

}  // namespace winnow
