#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/interrupt.h"
#include "client/cli/load_plan.h"
#include "client/cli/load_report.h"
#include "client/cli/progress.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr char kHelp[] =
    R"(winnow load: asks a router as many clients would, and tells how it answered.

  winnow load [--arrivals KIND] --requests N [options]

Requests come by a Poisson process whether earlier ones are answered or not (an open loop), with random
token ids as prompts, and times count from when a request was due.

  --arrivals KIND         poisson; at-once: all together at the beginning; in-turn: each when the one
                          before has been answered (poisson)
  --rate R                requests a second of a Poisson process (1)
  --requests N            how many (10)
  --prompt-tokens MIX     lengths and weights, such as 512:3,8192:1 (512)
  --keep-ratio MIX        keep ratios and weights, such as full:1,0.1:3 (full)
  --max-tokens M          to generate for each (16)
  --slo-ttft-ms MS        goodput counts requests whose first token came within so many
  --slo-inter-token-ms MS … and whose tokens then came so fast on average
  --max-in-flight N       requests waiting at a time; more are counted as not sent (1024)
  --timeout-s N           give up on a request after so many seconds (600)
  --seed S                the same load again (1)

)";
constexpr char kMoreHelp[] = R"(  --json                  print one JSON object on one line
  --each                  with --json: the requests one by one, too, with their stages

Ctrl-C ends the load and reports what came. Exit codes: 0 ok, also when requests failed · 2 bad command
line · 4 try later · 5 too late · 1 other errors

  winnow load --rate 4 --requests 100 --prompt-tokens 512:3,8000:1 --keep-ratio 0.1 --slo-ttft-ms 2000
)";

struct LoadSettings {
  LoadOptions plan;
  LoadSlo slo;
  int32_t max_tokens = 16;
  int64_t max_in_flight = 1024;
  absl::Duration timeout = absl::Minutes(10);
};

template <typename T>
absl::Status ReadNumber(const Args& args, const std::string& name, T low, T* value) {
  if (!args.Has(name)) return absl::OkStatus();
  if constexpr (std::is_floating_point_v<T>) {
    WINNOW_ASSIGN_OR_RETURN(*value, args.GetDouble(name));
  } else {
    WINNOW_ASSIGN_OR_RETURN(*value, args.GetInt<T>(name));
  }
  if (*value >= low) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, ": must be ", low, " or more, got ", *value));
}

template <typename T>
absl::Status ReadMix(const Args& args, const std::string& name, const std::string& fallback,
                     absl::StatusOr<Mix<T>> (*parse)(const std::string&), Mix<T>* mix) {
  absl::StatusOr<Mix<T>> parsed = parse(args.Get(name, fallback));
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, ": ", parsed.status().message()));
  }
  *mix = *std::move(parsed);
  return absl::OkStatus();
}

absl::StatusOr<LoadSettings> ReadSettings(const Args& args) {
  LoadSettings s;
  s.plan.num_requests = 10;
  double ttft_ms = 0, inter_token_ms = 0;
  const absl::StatusOr<Arrivals> arrivals = ParseArrivals(args.Get("arrivals", "poisson"));
  if (!arrivals.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--arrivals: ", arrivals.status().message()));
  }
  s.plan.arrivals = *arrivals;
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "rate", 1e-6, &s.plan.rate));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "requests", int64_t{1}, &s.plan.num_requests));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "seed", uint64_t{0}, &s.plan.seed));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "max-tokens", int32_t{1}, &s.max_tokens));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "max-in-flight", int64_t{1}, &s.max_in_flight));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "slo-ttft-ms", 0.0, &ttft_ms));
  WINNOW_RETURN_IF_ERROR(ReadNumber(args, "slo-inter-token-ms", 0.0, &inter_token_ms));
  s.slo = {ttft_ms * 1e-3, inter_token_ms * 1e-3};
  WINNOW_ASSIGN_OR_RETURN(s.timeout, args.GetSeconds("timeout-s", s.timeout));
  WINNOW_RETURN_IF_ERROR(
      ReadMix(args, "prompt-tokens", "512", ParseTokenMix, &s.plan.prompt_tokens));
  WINNOW_RETURN_IF_ERROR(ReadMix(args, "keep-ratio", "full", ParseKeepMix, &s.plan.keep_ratios));
  return s;
}

v1::GenerateRequest MakeRequest(const PlannedRequest& planned, int32_t vocab, int32_t max_tokens) {
  v1::GenerateRequest request;
  std::mt19937_64 random(planned.seed);
  for (int64_t i = 0; i < planned.prompt_tokens; ++i) {
    request.mutable_token_ids()->add_ids(static_cast<int32_t>(random() % vocab));
  }
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  request.mutable_selection()->set_policy(planned.keep_ratio < 1 ? "claa" : "full");
  if (planned.keep_ratio < 1) request.mutable_selection()->set_keep_ratio(planned.keep_ratio);
  return request;
}

// `sample` says which request this is.
LoadSample Ask(WinnowClient& client, LoadSample sample, const v1::GenerateRequest& request,
               absl::Time due, absl::Duration timeout, const StopFlag& stop) {
  const auto since_due = [&] { return absl::ToDoubleSeconds(absl::Now() - due); };
  double last = 0;
  GenerateCallbacks callbacks;
  callbacks.token = [&](int32_t index, int32_t id, const std::string&) {
    if (id < 0) return;
    const double now = since_due();
    if (index == 0) sample.ttft_s = now;
    if (index == 1) sample.second_token_s = now;
    if (index > 1) sample.inter_token_s.push_back(now - last);
    last = now;
    ++sample.completion_tokens;
  };
  const absl::StatusOr<GenerateResult> result = client.Generate(request, timeout, callbacks, &stop);
  sample.total_s = since_due();
  sample.status = result.status();
  if (result.ok()) sample.stages = result->stages;
  return sample;
}

// A thread for every request that waits.
class Crowd {
 public:
  explicit Crowd(int64_t most) : most_(most) {}
  ~Crowd() { Wait(); }

  // False: as many wait as may.
  bool Run(std::function<void()> work) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (size_ >= most_) return false;
      ++size_;
    }
    std::thread([this, work = std::move(work)] {
      work();
      std::lock_guard<std::mutex> lock(mutex_);
      --size_;
      wake_.notify_all();
    }).detach();
    return true;
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return size_ == 0; });
  }
  int64_t size() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return size_;
  }

 private:
  const int64_t most_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  int64_t size_ = 0;
};

double RunLoad(WinnowClient& client, const LoadSettings& settings, int32_t vocab,
               Progress& progress, LoadReport& report, const StopFlag& stop) {
  const std::vector<PlannedRequest> plan = PlanLoad(settings.plan);
  const Arrivals arrivals = settings.plan.arrivals;
  std::vector<v1::GenerateRequest> made;  // those of a load at once: none waits for its prompt
  for (size_t i = 0; arrivals == Arrivals::kAtOnce && i < plan.size(); ++i) {
    made.push_back(MakeRequest(plan[i], vocab, settings.max_tokens));
  }
  const absl::Time begin = absl::Now();
  Crowd crowd(settings.max_in_flight);
  size_t sent = 0;
  const auto show = [&] {
    progress.SetLabel(absl::StrFormat("%d of %d sent, %d waiting, %d ok, %d failed", sent,
                                      plan.size(), crowd.size(), report.num_ok(),
                                      report.num_failed()));
  };
  for (const PlannedRequest& planned : plan) {
    // Made beforehand: a long prompt takes a while.
    auto request =
        made.empty() ? MakeRequest(planned, vocab, settings.max_tokens) : std::move(made[sent]);
    if (arrivals == Arrivals::kInTurn) crowd.Wait();
    const absl::Time due = arrivals == Arrivals::kInTurn ? absl::Now() : begin + planned.at;
    SleepUntil(due, stop);
    if (stop.IsStopped()) break;
    ++sent;
    LoadSample sample{.prompt_tokens = planned.prompt_tokens,
                      .keep_ratio = planned.keep_ratio,
                      .due_s = absl::ToDoubleSeconds(due - begin)};
    const bool runs = crowd.Run([&, due, sample, request = std::move(request)] {
      report.Add(Ask(client, sample, request, due, settings.timeout, stop));
    });
    if (!runs) {
      sample.status = absl::AbortedError("not sent: too many requests wait already");
      report.Add(std::move(sample));
    }
    show();
  }
  while (crowd.size() > 0) {
    show();
    absl::SleepFor(absl::Milliseconds(20));
  }
  return absl::ToDoubleSeconds(absl::Now() - begin);
}

}  // namespace

int LoadCommand(const std::vector<std::string>& words) {
  std::vector<std::string> values = {
      "arrivals", "rate",        "requests",           "prompt-tokens", "keep-ratio", "max-tokens",
      "seed",     "slo-ttft-ms", "slo-inter-token-ms", "max-in-flight", "timeout-s"};
  values.insert(values.end(), ConnectValues().begin(), ConnectValues().end());
  const absl::StatusOr<Args> args = Args::Parse(words, values, {"json", "each", "help"});
  if (!args.ok()) return ReportUsage("load", args.status());
  if (args->Has("help")) {
    for (const char* part : {kHelp, kConnectHelp, kMoreHelp}) std::fputs(part, stdout);
    return kExitOk;
  }
  if (args->Has("each") && !args->Has("json")) {
    return ReportUsage("load", absl::InvalidArgumentError("--each: needs --json"));
  }
  const absl::StatusOr<LoadSettings> settings = ReadSettings(*args);
  if (!settings.ok()) return ReportUsage("load", settings.status());
  const auto client = Connect(*args);
  if (!client.ok()) return ReportUsage("load", client.status());
  const absl::StatusOr<std::vector<v1::Model>> models = (*client)->ListModels(absl::Seconds(10));
  if (!models.ok()) return ReportError(models.status());
  if (models->empty() || models->front().vocab_size() < 1) {
    return ReportError(absl::InternalError("the router serves no model"));
  }

  LoadReport report(settings->slo);
  Progress progress(isatty(STDERR_FILENO) != 0, "starting");
  const double seconds =
      RunLoad(**client, *settings, static_cast<int32_t>(models->front().vocab_size()), progress,
              report, StopOnSignals());
  progress.Stop();
  const std::string text =
      args->Has("json") ? report.ToJson(seconds, args->Has("each")) + "\n" : report.ToText(seconds);
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace winnow
