// Any bytes as the messages that strangers send: plans and samplings of the handoff, requests of
// clients. Refused with a sentence, or within the model; a plan that passes reserves what it says.
#include "checkpoint/selection_profile.h"
#include "router/request_validation.h"
#include "tests/fuzz/fuzz_file.h"
#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/reservation.h"
#include "winnow/v1/kv_transfer.pb.h"
#include "wire/kv_plan_proto.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// Whether a refusal says something.
template <typename T>
bool Passes(const absl::StatusOr<T>& value) {
  Require(value.ok() || !value.status().message().empty());
  return value.ok();
}

void FuzzReserve(const std::string& bytes) {
  v1::ReserveRequest message;
  if (!message.ParseFromString(bytes)) return;
  const absl::StatusOr<KvPlan> plan = FromProto(message.plan());
  if (!Passes(plan)) return;
  Require(*FromProto(ToProto(*plan)) == *plan);
  FakeTarget target;
  FakeClock clock;
  ReservationTable table(target, clock,
                         {.shape = SmallShape(),
                          .kv_element_bytes = kElementBytes,
                          .layout_digest = "layout",
                          .incarnation = 7});
  const ReserveParams request{TestIdentity(), *plan, message.max_tokens(), message.num_streams()};
  const absl::StatusOr<ReserveGrant> grant = table.Reserve(request);
  if (!Passes(grant)) return;
  Require(plan->num_prompt_tokens + message.max_tokens() - 1 <= SmallShape().max_context);
  Require(target.last_extra_tokens() == message.max_tokens() - 1);
  // Nothing has come: no commit can pass.
  const auto activate = [](const CommittedSequence&) { return absl::OkStatus(); };
  Require(!table
               .Commit({.identity = request.identity, .reservation_id = grant->reservation_id},
                       activate)
               .ok());
  Require(target.num_live() == 0);
}

void FuzzGenerate(const std::string& bytes) {
  v1::GenerateRequest request;
  if (!request.ParseFromString(bytes)) return;
  if (const absl::Status status = CheckEnvelope(request); !status.ok()) {
    Require(!status.message().empty());
    return;
  }
  v1::WorkerInfo model;
  model.set_vocab_size(100);
  model.set_max_context(1000);
  model.add_eos_token_ids(0);
  SelectionConfig profile;
  profile.selection_layer = 5;
  profile.uncompacted_layers = 2;
  *model.mutable_profile() = ToProto(profile);
  const auto sampling = ResolveSampling(request.sampling(), model, 1);
  const auto selection = ResolveSelection(request.selection(), model, true, std::nullopt);
  if (!Passes(sampling) || !Passes(selection)) return;
  Require(sampling->max_tokens >= 1 && sampling->max_tokens <= 1000);
  Require(Passes(FromProto(ToProto(*selection))));
  const std::vector<int32_t> ids(request.token_ids().ids().begin(),
                                 request.token_ids().ids().end());
  if (!CheckPrompt(ids, *sampling, model).ok()) return;
  for (const int32_t id : ids) Require(id >= 0 && id < 100);
  Require(ids.size() + sampling->max_tokens - 1 <= 1000);
}

}  // namespace
}  // namespace winnow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    winnow::FuzzReserve(bytes);
  } else {
    winnow::FuzzGenerate(bytes);
  }
  return 0;
}
