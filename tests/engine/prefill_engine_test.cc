// What the step API promises, whatever the model says.
#include "engine/prefill_engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <random>

#include "engine/comm/forwarding_communicator.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/peer_sums.h"
#include "engine/device/ref_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/host_copies.h"
#include "tests/engine/prefill_fixture.h"
#include "tests/testing/gate.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::vector<int32_t> RandomIds(int count, int seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(count);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4000);
  return ids;
}

SelectionOverrides Claa(double keep_ratio) { return {.policy = "claa", .keep_ratio = keep_ratio}; }

TEST(PrefillEngineTest, KeepRatioOneEqualsFull) {
  PrefillFixture fixture({});
  const auto ids = RandomIds(200, 1);
  const auto full = fixture.Prefill(ids, {.policy = "full"});
  const auto all_kept = fixture.Prefill(ids, Claa(1.0));
  ASSERT_TRUE(full.ok() && all_kept.ok());
  EXPECT_EQ(full->output.logits, all_kept->output.logits);
  EXPECT_THAT(all_kept->output.kept_positions, IsEmpty());
}

TEST(PrefillEngineTest, PackedSequencesEqualThoseRunAlone) {
  PrefillFixture fixture({.tensor_parallel = 2});
  TensorParallelPrefill& engine = fixture.engine();
  const std::vector<int> lengths = {1, 7, 150, 90};
  const std::vector<SelectionOverrides> policies = {
      {.policy = "full"}, Claa(0.3), Claa(0.2), Claa(0.5)};
  std::vector<int64_t> sequences;
  for (size_t i = 0; i < lengths.size(); ++i) {
    PrefillSpec spec{RandomIds(lengths[i], static_cast<int>(i)), fixture.Resolve(policies[i]), {}};
    spec.plan = MakePrefillPlan(engine.shape(), spec.selection, lengths[i]);
    sequences.push_back(*engine.Admit(std::move(spec), nullptr, nullptr));
  }
  std::map<int64_t, PrefillOutput> outputs;
  while (outputs.size() < sequences.size()) {
    std::vector<PrefillStepItem> items;
    for (int64_t sequence : sequences) {
      const PrefillProgress progress = *engine.Progress(sequence);
      if (progress.is_done()) continue;
      const int64_t rows = std::min<int64_t>(40, progress.num_rows - progress.next_row);
      items.push_back({sequence, progress.pass, progress.next_row, rows});
    }
    auto done = engine.Step(items);
    ASSERT_TRUE(done.ok()) << done.status();
    for (PrefillOutput& output : *done) outputs[output.sequence] = std::move(output);
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto alone = fixture.Prefill(RandomIds(lengths[i], static_cast<int>(i)), policies[i], 40);
    ASSERT_TRUE(alone.ok());
    const PrefillOutput& packed = outputs[sequences[i]];
    EXPECT_EQ(packed.kept_positions, alone->output.kept_positions);
    for (size_t j = 0; j < packed.logits.size(); ++j) {
      ASSERT_NEAR(packed.logits[j], alone->output.logits[j], 1e-3)
          << "sequence " << i << ", logit " << j;
    }
  }
}

TEST(PrefillEngineTest, EveryLengthAroundTheWindowAndTheBudgetRuns) {
  PrefillFixture fixture({.tensor_parallel = 2});
  const int window = fixture.Resolve({}).window;
  const SelectionOverrides overrides{.policy = "claa", .keep_ratio = 0.1, .min_kept_tokens = 20};
  for (int n : {1, window - 1, window, window + 1, window + 2, 19, 20, 21, 22, 64}) {
    for (int64_t chunk : {0, 3}) {  // 3: the last chunk is shorter than the window
      const auto run = fixture.Prefill(RandomIds(n, n), overrides, chunk);
      ASSERT_TRUE(run.ok()) << "N = " << n << ": " << run.status();
      EXPECT_THAT(run->output.kept_positions, SizeIs(n > 20 ? 20 : 0)) << "N = " << n;
    }
  }
}

TEST(PrefillEngineTest, StoredKvIsThatOfTheKeptPositions) {
  // Up to the selection layer stored rows are the unpruned run's rows at the stored positions; that
  // one's chunks are longer, so sums may be rounded otherwise.
  PrefillFixture fixture({.tensor_parallel = 2});
  const auto ids = RandomIds(300, 3);
  const auto full = fixture.Prefill(ids, {.policy = "full"});
  const auto claa = fixture.Prefill(ids, Claa(0.1), 77);
  ASSERT_TRUE(full.ok() && claa.ok());
  for (int rank = 0; rank < 2; ++rank) {
    const KvStaging::Rank& a = full->staging->ranks[rank];
    const KvStaging::Rank& b = claa->staging->ranks[rank];
    const KvPlan& plan = claa->staging->plan;
    const int64_t kept = plan.segments[1].entries;
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      if (plan.form(layer) != KvForm::kPerHead) continue;
      for (int head = 0; head < a.heads.kv_count; ++head) {
        const auto* positions =
            static_cast<const uint32_t*>(b.at(b.layout.positions_offset(layer, head, 0)));
        EXPECT_TRUE(std::is_sorted(positions, positions + kept));
        for (int64_t slot = 0; slot < kept; ++slot) {
          const auto expect_near = [&](int64_t expected_at, int64_t got_at) {
            const auto* expected = static_cast<const float*>(a.at(expected_at));
            const auto* got = static_cast<const float*>(b.at(got_at));
            for (int c = 0; c < plan.head_dim; ++c) ASSERT_NEAR(expected[c], got[c], 1e-4);
          };
          expect_near(a.layout.key_offset(layer, head, positions[slot]),
                      b.layout.key_offset(layer, head, slot));
          expect_near(a.layout.value_offset(layer, head, positions[slot]),
                      b.layout.value_offset(layer, head, slot));
        }
      }
    }
  }
}

TEST(PrefillEngineTest, ProtectedPositionsAreAlwaysKept) {
  PrefillFixture fixture({});
  SelectionOverrides overrides = Claa(0.1);
  overrides.protected_prefix = 3;
  overrides.protected_spans = {{100, 140}};
  const auto run = fixture.Prefill(RandomIds(300, 4), overrides);
  ASSERT_TRUE(run.ok());
  const auto& kept = run->output.kept_positions;
  EXPECT_THAT(kept, SizeIs(51));  // 43 protected and the window, more than 30
  for (int32_t position : {0, 1, 2, 100, 139, 292, 299}) {
    EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), position)) << position;
  }
}

TEST(PrefillEngineTest, RefusesAChunkThatDoesNotContinue) {
  PrefillFixture fixture({});
  PrefillSpec spec{RandomIds(50, 5), fixture.Resolve({.policy = "full"}), {}};
  spec.plan = MakePrefillPlan(fixture.engine().shape(), spec.selection, 50);
  const int64_t sequence = *fixture.engine().Admit(std::move(spec), nullptr, nullptr);
  for (const PrefillStepItem& item :
       {PrefillStepItem{sequence, 0, 1, 10}, PrefillStepItem{sequence, 1, 0, 1},
        PrefillStepItem{sequence, 0, 0, 51}, PrefillStepItem{sequence + 1, 0, 0, 1}}) {
    EXPECT_EQ(fixture.engine().Step({item}).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

// Fails, or sleeps, at one collective.
class FaultyCommunicator final : public ForwardingCommunicator {
 public:
  FaultyCommunicator(Communicator& inner, int at, std::function<absl::Status()> fault)
      : ForwardingCommunicator(inner), left_(at), fault_(std::move(fault)) {}
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    const absl::Status fault = Fault();
    return fault.ok() ? ForwardingCommunicator::AllReduceSum(data, dtype, count, deadline) : fault;
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    const absl::Status fault = Fault();
    return fault.ok() ? ForwardingCommunicator::AllReduceMax(data, count, deadline) : fault;
  }
  absl::Status BeginSum(const Sum& sum, Deadline deadline) override {
    const absl::Status fault = Fault();
    return fault.ok() ? ForwardingCommunicator::BeginSum(sum, deadline) : fault;
  }
  absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline deadline) override {
    if (absl::Status fault = Fault(); !fault.ok()) return fault;
    return ForwardingCommunicator::JoinSum(sum, deadline);
  }

 private:
  absl::Status Fault() { return left_-- == 0 ? fault_() : absl::OkStatus(); }
  int left_;
  std::function<absl::Status()> fault_;
};

// Overlapped sums that come as late as they may.
class LateSums final : public ForwardingCommunicator {
 public:
  LateSums(Communicator& inner, int64_t min_overlap_elements, std::atomic<int>& num_begun)
      : ForwardingCommunicator(inner),
        min_overlap_elements_(min_overlap_elements),
        num_begun_(num_begun) {}
  int64_t min_overlap_elements() const override { return min_overlap_elements_; }
  absl::Status BeginSum(const Sum& sum, Deadline) override {
    ++num_begun_;
    begun_.push_back(sum.data);
    EXPECT_LE(begun_.size(), kMaxBegunSums);
    return absl::OkStatus();
  }
  absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline deadline) override {
    EXPECT_EQ(begun_.front(), sum.data);
    begun_.pop_front();
    if (absl::Status s = AllReduceSum(sum.data, sum.dtype, sum.count, deadline); !s.ok()) return s;
    return Addends(sum.data);
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    EXPECT_THAT(begun_, IsEmpty());
    return ForwardingCommunicator::AllReduceMax(data, count, deadline);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    EXPECT_THAT(begun_, IsEmpty());
    return ForwardingCommunicator::AllGather(in, out, bytes, deadline);
  }

 private:
  const int64_t min_overlap_elements_;
  std::atomic<int>& num_begun_;
  std::deque<const void*> begun_;
};

TEST(PrefillEngineTest, OverlappedSumsChangeNothing) {
  PrefillFixture plain({.tensor_parallel = 2});
  std::atomic<int> num_begun{0};
  const int64_t hidden = plain.engine().shape().hidden;
  PrefillFixture overlapped({.tensor_parallel = 2, .wrap = [&](int, Communicator& inner) {
                               return std::make_unique<LateSums>(inner, 128 * hidden, num_begun);
                             }});
  for (const int tokens : {700, 256, 255}) {  // the last one is too short for two parts
    num_begun = 0;
    const auto expected = plain.Prefill(RandomIds(tokens, 8), Claa(0.4));
    const auto run = overlapped.Prefill(RandomIds(tokens, 8), Claa(0.4));
    ASSERT_TRUE(expected.ok() && run.ok()) << run.status();
    EXPECT_EQ(num_begun > 0, tokens >= 256) << tokens;
    EXPECT_EQ(run->output.kept_positions, expected->output.kept_positions);
    EXPECT_EQ(run->output.logits, expected->output.logits);
  }
}

// Ranks whose sums of 128 rows or more are copies in the host's memory; the last group's HostCopies
// in `made`.
auto ByCopies(HostCopies*& made) {
  return [&made](ModelRanks::Options& options) {
    options.make_communicators = [&made, size = options.tensor_parallel,
                                  clock = options.clock](const auto&) {
      auto copies = std::make_unique<HostCopies>();
      made = copies.get();
      const int64_t hidden = 256;  // the demo model's
      return std::make_unique<PeerSums>(std::make_unique<LocalGroup>(size, *clock),
                                        std::move(copies), size, 128 * hidden, *clock);
    };
    return absl::OkStatus();
  };
}

TEST(PrefillEngineTest, SumsByCopiesChangeNothing) {
  for (const int ranks : {2, 4}) {
    HostCopies* copies = nullptr;
    PrefillFixture plain({.tensor_parallel = ranks});
    PrefillFixture by_copies({.tensor_parallel = ranks, .use_device = ByCopies(copies)});
    for (const int chunk : {0, 300}) {
      const auto expected = plain.Prefill(RandomIds(700, 8), Claa(0.4), chunk);
      const auto run = by_copies.Prefill(RandomIds(700, 8), Claa(0.4), chunk);
      ASSERT_TRUE(expected.ok() && run.ok()) << run.status();
      EXPECT_EQ(run->output.kept_positions, expected->output.kept_positions);
      EXPECT_EQ(run->output.logits, expected->output.logits);
    }
  }
}

TEST(PrefillEngineTest, AFailureAmongSumsByCopiesLeavesNothingBehind) {
  const auto ids = RandomIds(300, 8);
  const auto expected = PrefillFixture({.tensor_parallel = 2}).Prefill(ids, Claa(0.4));
  ASSERT_TRUE(expected.ok());
  for (int at = 0; at < 14; ++at) {  // the embedding's sum, then begins and joins of two layers
    HostCopies* copies = nullptr;
    PrefillFixture fixture({.tensor_parallel = 2,
                            .use_device = ByCopies(copies),
                            .wrap = [at](int rank, Communicator& inner) {
                              return std::make_unique<FaultyCommunicator>(
                                  inner, rank == 1 ? at : -1,
                                  [] { return absl::InternalError("rank 1 is broken"); });
                            }});
    EXPECT_FALSE(fixture.Prefill(ids, Claa(0.4)).ok()) << at;
    copies->Forget();
    const auto run = fixture.Prefill(ids, Claa(0.4));
    ASSERT_TRUE(run.ok()) << at << ": " << run.status();
    EXPECT_EQ(run->output.kept_positions, expected->output.kept_positions);
    EXPECT_EQ(run->output.logits, expected->output.logits);
  }
}

// Whether a device's queues stand still.
struct Hold {
  std::atomic<bool> is_on{false};
  std::atomic<int> num_looks{0};
  Gate looked_thrice;  // at an event while it is on

  bool Look() {
    if (is_on && ++num_looks == 3) looked_thrice.Open();
    return !is_on;
  }
};

class HeldBackend final : public RefBackend {
 public:
  explicit HeldBackend(Hold& hold) : RefBackend(DType::kF32), hold_(hold) {}
  EventPtr Record() override {
    if (!hold_.is_on) return RefBackend::Record();
    return std::make_shared<HeldEvent>(hold_);
  }

 private:
  struct HeldEvent final : public Event {
    explicit HeldEvent(Hold& hold) : hold(hold) {}
    bool IsDone() const override { return hold.Look(); }
    absl::Status Wait(const Clock&, Deadline) override { return absl::OkStatus(); }
    Hold& hold;
  };
  Hold& hold_;
};

// `staging` for the engine, which opens `freed` when the engine lets go of it.
std::shared_ptr<KvStaging> Watched(std::shared_ptr<KvStaging> staging, Gate& freed) {
  KvStaging* const at = staging.get();
  return {at, [owned = std::move(staging), &freed](KvStaging*) mutable {
            owned.reset();
            freed.Open();
          }};
}

TEST(PrefillEngineTest, AReleasedSequenceKeepsItsMemoryUntilTheQueuesAreDone) {
  Hold hold;
  Gate freed;
  PrefillFixture fixture({.use_device = [&hold](ModelRanks::Options& options) {
    options.make_backend = [&hold](int) { return std::make_unique<HeldBackend>(hold); };
    return absl::OkStatus();
  }});
  TensorParallelPrefill& engine = fixture.engine();
  PrefillSpec spec{RandomIds(20, 9), fixture.Resolve(Claa(0.5)), {}};
  spec.plan = MakePrefillPlan(engine.shape(), spec.selection, 20);
  std::shared_ptr<KvStaging> staging = Watched(*engine.AllocateStaging(spec.plan.kv), freed);
  class : public KvSink {
    void OnKvReady(const KvReady&, EventPtr) override {}
  } sink;
  const int64_t sequence = *engine.Admit(std::move(spec), std::move(staging), &sink);
  ASSERT_TRUE(engine.Step({{sequence, 0, 0, 10}}).ok());
  hold.is_on = true;
  engine.Release(sequence);
  EXPECT_TRUE(hold.looked_thrice.Wait());
  EXPECT_FALSE(freed.is_open());
  hold.is_on = false;
  EXPECT_TRUE(freed.Wait());
}

// Says at one of the reductions of scores that one was not a number.
class NanInScores final : public ForwardingCommunicator {
 public:
  NanInScores(Communicator& inner, int at) : ForwardingCommunicator(inner), left_(at) {}
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    const absl::Status status = ForwardingCommunicator::AllReduceMax(data, count, deadline);
    if (left_-- == 0) data[count - 1] = 1.0f;
    return status;
  }

 private:
  int left_;
};

TEST(PrefillEngineTest, APromptWhoseScoresAreNoNumbersFailsAlone) {
  PrefillFixture fixture({.tensor_parallel = 2, .wrap = [](int, Communicator& inner) {
                            return std::make_unique<NanInScores>(inner, /*at=*/1);
                          }});
  TensorParallelPrefill& engine = fixture.engine();
  std::vector<PrefillStepItem> prompt, kept;
  for (const int seed : {1, 2}) {
    PrefillSpec spec{RandomIds(60, seed), fixture.Resolve(Claa(0.5)), {}};
    spec.plan = MakePrefillPlan(engine.shape(), spec.selection, 60);
    const int64_t sequence = *engine.Admit(std::move(spec), nullptr, nullptr);
    prompt.push_back({sequence, 0, 0, 60});
    kept.push_back({sequence, 1, 0, 30});
  }
  ASSERT_TRUE(engine.Step(prompt).ok());
  const auto outputs = engine.Step(kept);
  ASSERT_TRUE(outputs.ok()) << outputs.status();
  ASSERT_THAT(*outputs, SizeIs(2));
  EXPECT_EQ((*outputs)[0].status, absl::OkStatus());
  EXPECT_EQ((*outputs)[1].status.code(), absl::StatusCode::kInternal);
  const auto alone = fixture.Prefill(RandomIds(60, 1), Claa(0.5));
  ASSERT_TRUE(alone.ok());
  EXPECT_EQ((*outputs)[0].kept_positions, alone->output.kept_positions);
}

TEST(PrefillEngineTest, AFailingRankFailsTheStepOnAllAndTheNextOneWorks) {
  PrefillFixture fixture({.tensor_parallel = 4, .wrap = [](int rank, Communicator& inner) {
                            return std::make_unique<FaultyCommunicator>(
                                inner, rank == 2 ? 5 : -1,
                                [] { return absl::InternalError("rank 2 is broken"); });
                          }});
  const auto failed = fixture.Prefill(RandomIds(100, 6), Claa(0.2));
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("rank 2 is broken"));
  EXPECT_TRUE(fixture.Prefill(RandomIds(100, 6), Claa(0.2)).ok());
}

// Opens a gate when a sum fails.
class FailureGate final : public ForwardingCommunicator {
 public:
  FailureGate(Communicator& inner, Gate& failed) : ForwardingCommunicator(inner), failed_(failed) {}
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    const absl::Status status = ForwardingCommunicator::AllReduceSum(data, dtype, count, deadline);
    if (!status.ok()) failed_.Open();
    return status;
  }

 private:
  Gate& failed_;
};

TEST(PrefillEngineTest, ALateRankFailsTheStepWithinTheDeadline) {
  Gate failed;  // on rank 0, that rank 1 is later than
  PrefillFixture fixture(
      {.tensor_parallel = 2,
       .step_timeout = absl::Seconds(2),
       .wrap = [&failed](int rank, Communicator& inner) -> std::unique_ptr<Communicator> {
         if (rank == 0) return std::make_unique<FailureGate>(inner, failed);
         return std::make_unique<FaultyCommunicator>(inner, 3, [&failed] {
           EXPECT_TRUE(failed.Wait());
           return absl::OkStatus();
         });
       }});
  const auto late = fixture.Prefill(RandomIds(20, 7), Claa(0.2));
  EXPECT_EQ(late.status().code(), absl::StatusCode::kDeadlineExceeded) << late.status();
  EXPECT_TRUE(fixture.Prefill(RandomIds(20, 7), Claa(0.2)).ok());
}

}  // namespace
}  // namespace winnow
