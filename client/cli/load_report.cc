#include "client/cli/load_report.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/stages_json.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double ToMs(double seconds) { return std::round(seconds * 1e5) / 1e2; }

Json Distribution(const std::vector<double>& seconds) {
  return {{"count", seconds.size()},
          {"mean", ToMs(Mean(seconds))},
          {"p50", ToMs(Percentile(seconds, 0.5))},
          {"p90", ToMs(Percentile(seconds, 0.9))},
          {"p99", ToMs(Percentile(seconds, 0.99))},
          {"max", ToMs(Percentile(seconds, 1))}};
}

Json SampleJson(const LoadSample& sample) {
  Json json = {{"due_s", sample.due_s},
               {"prompt_tokens", sample.prompt_tokens},
               {"keep_ratio", sample.keep_ratio},
               {"status", absl::StatusCodeToString(sample.status.code())}};
  if (!sample.status.ok()) {
    json["message"] = std::string(sample.status.message());
    return json;
  }
  json["ttft_ms"] = ToMs(sample.ttft_s);
  if (sample.second_token_s >= 0) json["second_token_ms"] = ToMs(sample.second_token_s);
  json["inter_token_ms"] = ToMs(Mean(sample.inter_token_s));
  json["total_ms"] = ToMs(sample.total_s);
  json["stages"] = StagesJson(sample.stages);
  return json;
}

Json EachJson(std::vector<LoadSample> samples) {
  std::stable_sort(samples.begin(), samples.end(),
                   [](const LoadSample& a, const LoadSample& b) { return a.due_s < b.due_s; });
  Json each = Json::array();
  for (const LoadSample& sample : samples) each.push_back(SampleJson(sample));
  return each;
}

bool IsWithin(const LoadSlo& slo, const LoadSample& sample) {
  if (!sample.status.ok()) return false;
  if (slo.ttft_s > 0 && sample.ttft_s > slo.ttft_s) return false;
  return slo.inter_token_s == 0 || Mean(sample.inter_token_s) <= slo.inter_token_s;
}

Json Summarize(const std::vector<LoadSample>& samples, const LoadSlo& slo, double seconds) {
  std::map<std::string, int64_t> errors;
  std::map<int64_t, std::vector<double>> ttft_by_length;
  std::vector<double> ttft, second, inter, total;
  int64_t good = 0, tokens = 0, prompt_tokens = 0;
  for (const LoadSample& sample : samples) {
    good += IsWithin(slo, sample);
    if (!sample.status.ok()) {
      ++errors[absl::StatusCodeToString(sample.status.code())];
      continue;
    }
    ttft.push_back(sample.ttft_s);
    ttft_by_length[sample.prompt_tokens].push_back(sample.ttft_s);
    total.push_back(sample.total_s);
    if (sample.second_token_s >= 0) second.push_back(sample.second_token_s);
    inter.insert(inter.end(), sample.inter_token_s.begin(), sample.inter_token_s.end());
    tokens += sample.completion_tokens;
    prompt_tokens += sample.prompt_tokens;
  }
  const double time = std::max(seconds, 1e-9);
  Json json = {{"requests", samples.size()}, {"ok", ttft.size()}, {"errors", Json::object()}};
  for (const auto& [code, count] : errors) json["errors"][code] = count;
  json["seconds"] = seconds;
  json["requests_per_s"] = static_cast<double>(ttft.size()) / time;
  json["prompt_tokens_per_s"] = static_cast<double>(prompt_tokens) / time;
  json["completion_tokens_per_s"] = static_cast<double>(tokens) / time;
  json["goodput_per_s"] = static_cast<double>(good) / time;
  json["goodput_share"] =
      samples.empty() ? 0 : static_cast<double>(good) / static_cast<double>(samples.size());
  json["ttft_ms"] = Distribution(ttft);
  json["second_token_ms"] = Distribution(second);
  json["inter_token_ms"] = Distribution(inter);
  json["total_ms"] = Distribution(total);
  json["ttft_ms_by_prompt_tokens"] = Json::object();
  for (const auto& [length, values] : ttft_by_length) {
    json["ttft_ms_by_prompt_tokens"][std::to_string(length)] = Distribution(values);
  }
  return json;
}

}  // namespace

double Percentile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(values.size())));
  const auto nth = values.begin() + (rank == 0 ? 0 : static_cast<int64_t>(rank) - 1);
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

void LoadReport::Add(LoadSample sample) {
  std::lock_guard<std::mutex> lock(mutex_);
  samples_.push_back(std::move(sample));
}

int64_t LoadReport::num_ok() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::count_if(samples_.begin(), samples_.end(),
                       [](const LoadSample& sample) { return sample.status.ok(); });
}

int64_t LoadReport::num_failed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::count_if(samples_.begin(), samples_.end(),
                       [](const LoadSample& sample) { return !sample.status.ok(); });
}

std::string LoadReport::ToJson(double seconds, bool with_each) const {
  std::lock_guard<std::mutex> lock(mutex_);
  Json json = Summarize(samples_, slo_, seconds);
  if (with_each) json["each"] = EachJson(samples_);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string LoadReport::ToText(double seconds) const {
  std::unique_lock<std::mutex> lock(mutex_);
  const Json json = Summarize(samples_, slo_, seconds);
  lock.unlock();
  std::string text = absl::StrFormat(
      "%d requests in %.1f s: %d ok (%.2f a second), %.2f a second within the goals (%.1f %%)\n"
      "%.0f prompt tokens and %.0f generated tokens a second\n",
      json["requests"].get<int64_t>(), seconds, json["ok"].get<int64_t>(),
      json["requests_per_s"].get<double>(), json["goodput_per_s"].get<double>(),
      100 * json["goodput_share"].get<double>(), json["prompt_tokens_per_s"].get<double>(),
      json["completion_tokens_per_s"].get<double>());
  for (const auto& [code, count] : json["errors"].items()) {
    absl::StrAppendFormat(&text, "%d failed with %s\n", count.get<int64_t>(), code);
  }
  absl::StrAppendFormat(&text, "%-28s%10s%10s%10s%10s%10s\n", "milliseconds", "mean", "p50", "p90",
                        "p99", "max");
  const auto line = [&](const std::string& name, const Json& d) {
    if (d["count"] == 0) return;
    absl::StrAppendFormat(&text, "%-28s%10.1f%10.1f%10.1f%10.1f%10.1f\n", name,
                          d["mean"].get<double>(), d["p50"].get<double>(), d["p90"].get<double>(),
                          d["p99"].get<double>(), d["max"].get<double>());
  };
  line("first token", json["ttft_ms"]);
  for (const auto& [length, d] : json["ttft_ms_by_prompt_tokens"].items()) {
    line("  of prompts of " + length, d);
  }
  line("second token", json["second_token_ms"]);
  line("between tokens", json["inter_token_ms"]);
  line("whole request", json["total_ms"]);
  return text;
}

}  // namespace winnow
