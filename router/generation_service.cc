#include "router/generation_service.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "router/admission.h"
#include "router/stop_strings.h"
#include "rpc/grpc_deadline.h"
#include "rpc/plan_proto.h"
#include "rpc/queued_writer.h"
#include "tokenizer/stream_decoder.h"

namespace winnow {
namespace {

uint64_t RandomBits() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return random();
}

absl::StatusOr<std::vector<int32_t>> EncodePrompt(const Tokenizer& tokenizer, const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (request.text().empty()) return absl::InvalidArgumentError("prompt: the text is empty");
      return tokenizer.EncodeChat({{"user", request.text()}});
    case v1::GenerateRequest::kRaw: return tokenizer.EncodeRaw(request.raw());
    case v1::GenerateRequest::kTokenIds:
      return std::vector<int32_t>(request.token_ids().ids().begin(), request.token_ids().ids().end());
    case v1::GenerateRequest::kChat: {
      std::vector<ChatTurn> turns;
      for (const v1::ChatMessage& message : request.chat().messages()) {
        turns.push_back({message.role(), message.content()});
      }
      if (turns.empty()) return absl::InvalidArgumentError("prompt: the chat has no messages");
      return tokenizer.EncodeChat(turns);
    }
    case v1::GenerateRequest::PROMPT_NOT_SET: break;
  }
  return absl::InvalidArgumentError("prompt: one of text, raw, token_ids and chat must be set");
}

}  // namespace

// One Generate call, from parsing to its last event. The driver's callbacks hold it.
class GenerationService::Generation : public std::enable_shared_from_this<Generation> {
 public:
  using Writer = QueuedWriter<v1::GenerateResponse>;
  Generation(GenerationService& service, std::shared_ptr<Writer> writer, v1::GenerateRequest request,
             Deadline deadline)
      : service_(service), writer_(std::move(writer)), request_(std::move(request)), deadline_(deadline),
        received_(service.clock_.Now()), decoder_(service.tokenizer_),
        stops_({request_.sampling().stop().begin(), request_.sampling().stop().end()}) {
    ++service_.num_running_;
    service_.metrics_.OnReceived();
  }

  // On the executor.
  void Begin() {
    absl::StatusOr<v1::PrefillRequest> prefill = Admit();
    if (!prefill.ok()) {
      End(prefill.status());
      return;
    }
    v1::GenerateResponse event;
    event.mutable_started()->set_request_id(prefill->request_id());
    event.mutable_started()->set_prompt_tokens(prefill->prompt_ids_size());
    writer_->Write(std::move(event));
    DriverCallbacks callbacks;
    callbacks.token = [self = shared_from_this()](int32_t index, int32_t id, bool is_stop) {
      self->OnToken(index, id, is_stop);
    };
    callbacks.finished = [self = shared_from_this()](const v1::Committed& committed, int tensor_parallel) {
      self->OnFinished(committed, tensor_parallel);
    };
    callbacks.failed = [self = shared_from_this()](const absl::Status& status) { self->End(status); };
    driver_ = std::make_shared<RequestDriver>(*std::move(prefill), deadline_, service_.clients_, service_.registry_,
                                              service_.clock_, service_.metrics_, std::move(callbacks),
                                              service_.options_.driver);
    writer_->SetOnCancel([driver = driver_, deadline = deadline_, &clock = service_.clock_] {
      driver->Cancel(deadline.HasPassed(clock) ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kCancelled);
    });
    dispatched_ = service_.clock_.Now();
    const std::shared_ptr<RequestDriver> driver = driver_;  // End may come from inside and lets go of it
    driver->Start();
  }

  void End(const absl::Status& status) {
    driver_.reset();  // its callbacks hold this
    service_.metrics_.OnEnded(status.code(), Seconds(received_, service_.clock_.Now()));
    writer_->Finish(status);
    --service_.num_running_;
  }

 private:
  static double Seconds(absl::Time from, absl::Time to) { return absl::ToDoubleSeconds(to - from); }

  absl::StatusOr<v1::PrefillRequest> Admit() {
    if (request_.ByteSizeLong() > service_.options_.max_request_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("request: at most ", service_.options_.max_request_bytes,
                                                     " bytes, got ", request_.ByteSizeLong()));
    }
    WINNOW_ASSIGN_OR_RETURN(const v1::WorkerInfo model, service_.registry_.Model());
    WINNOW_ASSIGN_OR_RETURN(sampling_, ResolveSampling(request_.sampling(), model, RandomBits()));
    WINNOW_ASSIGN_OR_RETURN(selection_,
                            ResolveSelection(request_.selection(), model, service_.options_.allow_explain));
    const absl::Time begin = service_.clock_.Now();
    WINNOW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, EncodePrompt(service_.tokenizer_, request_));
    tokenize_seconds_ = Seconds(begin, service_.clock_.Now());
    WINNOW_RETURN_IF_ERROR(CheckPrompt(ids, sampling_, model));
    prompt_tokens_ = static_cast<int64_t>(ids.size());

    v1::PrefillRequest prefill;
    prefill.set_request_id(request_.request_id().empty() ? absl::StrCat(absl::Hex(RandomBits(), absl::kZeroPad16))
                                                         : request_.request_id());
    prefill.mutable_prompt_ids()->Add(ids.begin(), ids.end());
    *prefill.mutable_sampling() = ToProto(sampling_);
    *prefill.mutable_selection() = ToProto(selection_);
    prefill.set_explain(request_.selection().explain());
    prefill.set_priority(request_.priority());
    return prefill;
  }

  void OnToken(int32_t index, int32_t id, bool is_stop) {
    if (stops_.found()) return;  // nothing after a stop string is sent or billed
    ++completion_tokens_;
    stop_token_ = is_stop;
    v1::GenerateResponse event;
    event.mutable_token()->set_index(index);
    event.mutable_token()->set_id(id);
    if (!is_stop) event.mutable_token()->set_text(stops_.Add(decoder_.Add(id)));
    writer_->Write(std::move(event));
    const absl::Time now = service_.clock_.Now();
    if (index == 0) {
      first_token_ = now;
      service_.metrics_.OnFirstToken(SelectionPolicyName(selection_.policy), prompt_tokens_, Seconds(received_, now));
    } else if (index == 1) {
      service_.metrics_.OnSecondToken(Seconds(first_token_, now));
    }
    if (stops_.found()) driver_->Stop();
  }

  void OnFinished(const v1::Committed& committed, int tensor_parallel) {
    const absl::Time now = service_.clock_.Now();
    v1::GenerateResponse event;
    v1::Finished* finished = event.mutable_finished();
    finished->set_reason(stops_.found() ? v1::FINISH_REASON_STOP_STRING
                         : stop_token_  ? v1::FINISH_REASON_STOP_TOKEN
                                        : v1::FINISH_REASON_LENGTH);
    finished->set_text(stops_.Add(decoder_.Flush()) + stops_.Flush());
    finished->set_prompt_tokens(prompt_tokens_);
    finished->set_completion_tokens(completion_tokens_);
    *finished->mutable_ledger() = committed.ledger();
    StageTimes stages = FromProto(committed.stages());
    const double worker = stages.queue + stages.reserve_wait + stages.full_layers + stages.score + stages.allreduce +
                          stages.select + stages.pruned_layers + stages.head;
    stages.tokenize = tokenize_seconds_;
    stages.admit = Seconds(received_, dispatched_) - tokenize_seconds_;
    // What lies between the dispatch and token 0 and is not the worker's: both ways over the wire, and retries.
    stages.relay = std::max(0.0, Seconds(dispatched_, first_token_) - worker);
    *finished->mutable_stages() = ToProto(stages);
    finished->set_ttft_seconds(Seconds(received_, first_token_));
    finished->set_total_seconds(Seconds(received_, now));
    *finished->mutable_selection() = ToProto(selection_);
    *finished->mutable_kept_position_deltas() = committed.kept_position_deltas();
    finished->set_prefill_tensor_parallel(tensor_parallel);
    writer_->Write(std::move(event));
    End(absl::OkStatus());
  }

  GenerationService& service_;
  const std::shared_ptr<Writer> writer_;
  const v1::GenerateRequest request_;
  const Deadline deadline_;
  const absl::Time received_;
  SamplingParams sampling_;
  SelectionConfig selection_;
  int64_t prompt_tokens_ = 0, completion_tokens_ = 0;
  double tokenize_seconds_ = 0;
  absl::Time dispatched_, first_token_;
  bool stop_token_ = false;
  StreamDecoder decoder_;
  StopStrings stops_;
  std::shared_ptr<RequestDriver> driver_;
};

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationService::Generate(grpc::CallbackServerContext* context,
                                                                            const v1::GenerateRequest* request) {
  auto writer = QueuedWriter<v1::GenerateResponse>::Create(*context);
  if (draining_) {
    writer->Finish(absl::UnavailableError("the router is draining"));
    return writer.get();
  }
  const Deadline deadline =
      DeadlineOf(*context, clock_).Earlier(Deadline::After(clock_, options_.default_timeout));
  auto generation = std::make_shared<Generation>(*this, writer, *request, deadline);
  executor_.Add([generation] { generation->Begin(); });
  return writer.get();
}

}  // namespace winnow
