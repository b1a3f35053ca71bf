#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/args.h"
#include "client/cli/canary_metrics.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/generate_request.h"
#include "client/cli/interrupt.h"
#include "common/process.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr char kHelp[] =
    R"(winnow canary: asks a question whose answer is known, and exports whether it was right.

  winnow canary (--prompt TEXT | --prompt-file F) --expect TEXT [options]

The answer is right when it holds the expected text, in upper or lower case. Options of `winnow generate` for
selection and sampling may be given, too; a long document asked with --policy claa tests what users get.

  --expect TEXT           what a right answer holds
  --textfile F            write the metrics there after each question, for a node exporter to find
  --http-listen H:PORT    serve them at /metrics
  --every-s N             ask again every N seconds until stopped (once)
  --timeout-s N           an answer later than this is an error (60)

)";
constexpr char kMoreHelp[] = R"(
Exit codes without --every-s: 0 right · 1 wrong · else as for `winnow generate`

  winnow canary --prompt 'What is the capital of France?' --expect Paris --textfile /var/lib/node-exporter/winnow.prom
)";

struct CanarySettings {
  v1::GenerateRequest request;
  std::string expected, textfile, http_listen;
  absl::Duration every;  // zero: once
  absl::Duration timeout;
};

absl::StatusOr<CanarySettings> ReadSettings(const Args& args) {
  CanarySettings settings{.expected = args.Get("expect"),
                          .textfile = args.Get("textfile"),
                          .http_listen = args.Get("http-listen")};
  if (settings.expected.empty()) return absl::InvalidArgumentError("--expect is required");
  WINNOW_ASSIGN_OR_RETURN(settings.request, ParseGenerateRequest(args));
  WINNOW_ASSIGN_OR_RETURN(settings.timeout, args.GetSeconds("timeout-s", absl::Minutes(1)));
  WINNOW_ASSIGN_OR_RETURN(settings.every, args.GetSeconds("every-s", absl::ZeroDuration()));
  return settings;
}

// At once, so that nobody reads half of it.
absl::Status WriteTextfile(const std::string& path, const std::string& text) {
  const std::string fresh = absl::StrCat(path, ".new");
  std::ofstream out(fresh, std::ios::binary);
  out << text;
  out.close();
  if (!out || std::rename(fresh.c_str(), path.c_str()) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--textfile ", path, " cannot be written"));
  }
  return absl::OkStatus();
}

// One question. Returns the exit code.
int Ask(const CanarySettings& settings, WinnowClient& client, CanaryMetrics& metrics,
        const StopFlag& stop) {
  const absl::Time begin = absl::Now();
  const absl::StatusOr<GenerateResult> result =
      client.Generate(settings.request, settings.timeout, {}, &stop);
  const auto tell = [&](CanaryOutcome outcome, double ttft_s, double total_s) {
    metrics.OnAnswer(outcome, absl::ToDoubleSeconds(begin - absl::UnixEpoch()), ttft_s, total_s);
  };
  if (!result.ok() && stop.IsStopped()) return ReportError(result.status());  // says nothing
  if (!result.ok()) {
    tell(CanaryOutcome::kError, 0, 0);
    return ReportError(result.status());
  }
  const bool right = IsRightAnswer(result->text, settings.expected);
  tell(right ? CanaryOutcome::kRight : CanaryOutcome::kWrong, result->ttft_s, result->total_s);
  std::printf("%s in %.3f s: %s\n", right ? "right" : "WRONG", result->total_s,
              result->text.c_str());
  std::fflush(stdout);
  return right ? kExitOk : kExitError;
}

}  // namespace

int CanaryCommand(const std::vector<std::string>& words) {
  std::vector<std::string> values = GenerateRequestValues(), flags = GenerateRequestFlags();
  values.insert(values.end(), {"expect", "textfile", "http-listen", "every-s", "timeout-s"});
  values.insert(values.end(), ConnectValues().begin(), ConnectValues().end());
  flags.push_back("help");
  const absl::StatusOr<Args> args = Args::Parse(words, values, flags);
  if (!args.ok()) return ReportUsage("canary", args.status());
  if (args->Has("help")) {
    for (const char* part : {kHelp, kConnectHelp, kMoreHelp}) std::fputs(part, stdout);
    return kExitOk;
  }
  const absl::StatusOr<CanarySettings> settings = ReadSettings(*args);
  if (!settings.ok()) return ReportUsage("canary", settings.status());
  const StopFlag& interrupted = StopOnSignals();
  const auto client = Connect(*args);
  if (!client.ok()) return ReportUsage("canary", client.status());
  MetricsRegistry registry("canary");
  CanaryMetrics metrics(registry);
  std::atomic<bool> ready{true};
  const auto http =
      StartStatusPages(settings->http_listen, ready, [&] { return registry.Serialize(); });
  if (!http.ok()) return ReportUsage("canary", http.status());
  while (true) {
    const int code = Ask(*settings, **client, metrics, interrupted);
    if (!settings->textfile.empty() && !interrupted.IsStopped()) {
      const absl::Status written = WriteTextfile(settings->textfile, registry.Serialize());
      if (!written.ok()) return ReportError(written);
    }
    if (settings->every == absl::ZeroDuration()) return code;
    SleepUntil(absl::Now() + settings->every, interrupted);
    if (interrupted.IsStopped()) return kExitOk;
  }
}

}  // namespace winnow
