#include "router/generation.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "router/request_validation.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

uint64_t RandomBits() {
  static thread_local std::mt19937_64 random{(uint64_t{std::random_device{}()} << 32) ^
                                             std::random_device{}()};
  return random();
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const Tokenizer& tokenizer,
                                                  const v1::GenerateRequest& request) {
  if (request.has_raw()) return tokenizer.EncodeRaw(request.raw());
  if (request.has_token_ids()) {
    return std::vector<int32_t>(request.token_ids().ids().begin(), request.token_ids().ids().end());
  }
  std::vector<ChatTurn> turns;
  if (request.has_text()) turns.push_back({"user", request.text()});
  for (const v1::ChatMessage& message : request.chat().messages()) {
    turns.push_back({message.role(), message.content()});
  }
  absl::StatusOr<std::vector<int32_t>> ids = tokenizer.EncodeChat(turns);
  // The model has no chat template, which the client can avoid: with raw text or ids.
  if (absl::IsFailedPrecondition(ids.status())) {
    return absl::InvalidArgumentError(ids.status().message());
  }
  return ids;
}

Rejection WhyRejected(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return Rejection::kNoWorker;
  if (absl::IsResourceExhausted(status)) return Rejection::kClientLimit;
  return absl::IsPermissionDenied(status) ? Rejection::kForbidden : Rejection::kInvalid;
}

}  // namespace

Generation::Generation(const GenerationParts& parts, const GenerationOptions& options,
                       v1::GenerateRequest request, RequestSlot slot, GenerationSink sink)
    : parts_(parts),
      options_(options),
      request_(std::move(request)),
      slot_(std::move(slot)),
      sink_(std::move(sink)),
      received_(parts.clock.Now()),
      decoder_(parts.tokenizer),
      stops_({request_.sampling().stop().begin(), request_.sampling().stop().end()}) {
  parts_.metrics.OnReceived();
}

void Generation::Begin() {
  parts_.metrics.OnTaken(SecondsSince(received_));
  if (IsCancelled()) {  // while it waited for this thread
    End(CancelStatus());
    return;
  }
  absl::StatusOr<v1::PrefillRequest> prefill = MakePrefillRequest(std::exchange(request_, {}));
  if (!prefill.ok()) {
    parts_.metrics.OnRejected(WhyRejected(prefill.status()));
    // Only the code: the text may quote the request.
    Log(spdlog::level::debug,
        absl::StrCat("refused: ", absl::StatusCodeToString(prefill.status().code())));
    End(prefill.status());
    return;
  }
  v1::GenerateResponse event;
  event.mutable_started()->set_request_id(name_);
  event.mutable_started()->set_prompt_tokens(prompt_tokens_);
  sink_.write(std::move(event));

  DriverCallbacks callbacks;
  const std::shared_ptr<Generation> self = shared_from_this();
  callbacks.accepted = [self] {
    if (self->completion_tokens_ == 0) self->accepted_ = self->parts_.clock.Now();
  };
  callbacks.token = [self](int32_t index, int32_t id, bool is_stop) {
    return self->OnToken(index, id, is_stop);
  };
  callbacks.decode_ready = [self] { self->OnDecodeReady(); };
  callbacks.finished = [self](const DriverResult& result) { self->OnFinished(result); };
  callbacks.failed = [self](const absl::Status& status) {
    self->Log(spdlog::level::info, absl::StrCat("failed: ", status.ToString()));
    self->End(status);
  };
  RequestDriver::Options options = options_.driver;
  options.trace = slot_.trace();
  options.jitter = static_cast<double>(RandomBits() >> 11) / static_cast<double>(1ULL << 53);
  const auto driver = std::make_shared<RequestDriver>(
      *std::move(prefill), slot_.deadline(),
      RequestDriver::Parts{parts_.clients, parts_.registry, parts_.clock, parts_.timer,
                           parts_.metrics},
      std::move(callbacks), options);
  dispatched_ = accepted_ = parts_.clock.Now();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    driver_ = driver;
  }
  if (IsCancelled()) {
    driver->Cancel(CancelStatus().code());
  } else {
    driver->Start();
  }
}

void Generation::Cancel() {
  std::shared_ptr<RequestDriver> driver;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    driver = driver_.lock();
  }
  if (driver != nullptr) driver->Cancel(CancelStatus().code());
}

bool Generation::IsCancelled() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_ || slot_.deadline().HasPassed(parts_.clock);
}

absl::Status Generation::CancelStatus() const {
  if (slot_.deadline().HasPassed(parts_.clock)) {
    return absl::DeadlineExceededError("the request's deadline passed");
  }
  return absl::CancelledError("the client cancelled the request");
}

void Generation::End(const absl::Status& status) {
  parts_.metrics.OnEnded(status.code(), SecondsSince(received_));
  slot_.Release();
  sink_.finish(status);
}

double Generation::SecondsSince(absl::Time begin) const {
  return absl::ToDoubleSeconds(parts_.clock.Now() - begin);
}

absl::Status Generation::CheckClient() const {
  Client* const client = slot_.client();
  if (client == nullptr) return absl::OkStatus();
  if (selection_.policy != &kFullPolicy) {
    WINNOW_RETURN_IF_ERROR(client->CheckKeepRatio(static_cast<double>(selection_.keep_ppm) * 1e-6));
  }
  return client->TakeTokens(prompt_tokens_ + sampling_.max_tokens);
}

absl::StatusOr<v1::PrefillRequest> Generation::MakePrefillRequest(
    const v1::GenerateRequest& request) {
  WINNOW_RETURN_IF_ERROR(CheckSize(slot_.bytes(), options_.max_request_bytes));
  WINNOW_RETURN_IF_ERROR(CheckEnvelope(request));
  // Workers keep KV under the request's id, so two clients that chose the same one must not meet.
  const std::string unique = absl::StrCat(absl::Hex(RandomBits(), absl::kZeroPad16));
  name_ = request.request_id().empty() ? unique : request.request_id();
  WINNOW_ASSIGN_OR_RETURN(const v1::WorkerInfo model, parts_.registry.Model());
  WINNOW_ASSIGN_OR_RETURN(sampling_, ResolveSampling(request.sampling(), model, RandomBits()));
  const bool is_chat = request.has_text() || request.has_chat();
  WINNOW_ASSIGN_OR_RETURN(selection_,
                          ResolveSelection(request.selection(), model, options_.allow_explain,
                                           is_chat ? options_.chat_window_offset : std::nullopt));
  const absl::Time begin = parts_.clock.Now();
  WINNOW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, EncodePrompt(parts_.tokenizer, request));
  tokenize_seconds_ = SecondsSince(begin);
  WINNOW_RETURN_IF_ERROR(CheckPrompt(ids, sampling_, model));
  prompt_tokens_ = static_cast<int64_t>(ids.size());
  WINNOW_RETURN_IF_ERROR(CheckClient());

  v1::PrefillRequest prefill;
  prefill.set_request_id(name_ == unique ? unique : absl::StrCat(name_, ".", unique));
  prefill.mutable_prompt_ids()->Add(ids.begin(), ids.end());
  *prefill.mutable_sampling() = ToProto(sampling_);
  *prefill.mutable_selection() = ToProto(selection_);
  prefill.set_explain(request.selection().explain());
  prefill.set_priority(request.priority());
  return prefill;
}

TokenReply Generation::OnToken(int32_t index, int32_t id, bool is_stop) {
  ++completion_tokens_;
  ends_with_stop_token_ = is_stop;
  v1::GenerateResponse event;
  event.mutable_token()->set_index(index);
  event.mutable_token()->set_id(id);
  if (!is_stop) event.mutable_token()->set_text(stops_.Add(decoder_.Add(id)));
  sink_.write(std::move(event));
  const std::string policy = selection_.policy->name;
  if (index == 0) {
    first_token_ = parts_.clock.Now();
    parts_.metrics.OnFirstToken(policy, prompt_tokens_,
                                absl::ToDoubleSeconds(first_token_ - received_));
  } else if (index == 1) {
    parts_.metrics.OnSecondToken(policy, SecondsSince(first_token_));
  }
  // Nothing after a stop string is sent or billed.
  return stops_.found() ? TokenReply::kEnough : TokenReply::kContinue;
}

void Generation::OnDecodeReady() {
  if (!std::exchange(decode_was_ready_, true)) {
    parts_.metrics.OnDecodeReady(SecondsSince(received_));
  }
}

void Generation::OnFinished(const DriverResult& result) {
  std::string rest = stops_.Add(decoder_.Flush());
  rest += stops_.Flush();
  const StageTimes stages = Stages(result.committed);
  v1::GenerateResponse event;
  v1::Finished* finished = event.mutable_finished();
  finished->set_reason(stops_.found()          ? v1::FINISH_REASON_STOP_STRING
                       : ends_with_stop_token_ ? v1::FINISH_REASON_STOP_TOKEN
                                               : v1::FINISH_REASON_LENGTH);
  finished->set_text(rest);
  finished->set_prompt_tokens(prompt_tokens_);
  finished->set_completion_tokens(completion_tokens_);
  *finished->mutable_ledger() = result.committed.ledger();
  *finished->mutable_stages() = ToProto(stages);
  finished->set_ttft_seconds(absl::ToDoubleSeconds(first_token_ - received_));
  finished->set_total_seconds(SecondsSince(received_));
  *finished->mutable_selection() = ToProto(selection_);
  *finished->mutable_kept_position_deltas() = result.committed.kept_position_deltas();
  finished->set_prefill_tensor_parallel(result.tensor_parallel);
  parts_.metrics.OnStages(stages);
  Log(spdlog::level::info,
      absl::StrFormat(
          "done: %d prompt tokens, %d new ones, the first after %.3f s, all after %.3f s",
          prompt_tokens_, completion_tokens_, finished->ttft_seconds(), finished->total_seconds()));
  sink_.write(std::move(event));
  End(absl::OkStatus());
}

// The worker's stages and the router's. Their sum is the TTFT, unless token 0 came from an earlier
// attempt than the committed one.
StageTimes Generation::Stages(const v1::Committed& committed) const {
  StageTimes s = FromProto(committed.stages());
  const double worker = s.queue + s.reserve_wait + s.full_layers + s.score + s.allreduce +
                        s.select + s.pruned_layers + s.head;
  s.tokenize = tokenize_seconds_;
  s.admit = absl::ToDoubleSeconds(dispatched_ - received_) - tokenize_seconds_;
  const double outside = std::max(0.0, absl::ToDoubleSeconds(first_token_ - dispatched_) - worker);
  // Dispatch ends when the worker accepts, and includes failed attempts before. Relay is the rest
  // that is not the worker's.
  s.dispatch = std::min(outside, absl::ToDoubleSeconds(accepted_ - dispatched_));
  s.relay = outside - s.dispatch;
  return s;
}

}  // namespace winnow
