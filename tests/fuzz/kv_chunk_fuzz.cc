// Any bytes as a Push message: refused, or chunks that encode back to them. And any chunks,
// sealed as a sender would, in any order: each is refused or stored within the plan, no slot twice.
#include <cstring>
#include <set>
#include <tuple>
#include <vector>

#include "tests/fuzz/fuzz_file.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"
#include "transfer/kv_receiver.h"

namespace winnow {
namespace {

void FuzzCodec(absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const absl::Span<const std::byte> before = bytes;
    const absl::StatusOr<DecodedChunk> chunk = TakeChunk(bytes);
    if (!chunk.ok()) {
      Require(!chunk.status().message().empty());
      return;
    }
    Require(chunk->payload.size() == chunk->header.payload_bytes);
    const std::string prefix = EncodePrefix(chunk->header);
    Require(prefix.size() + chunk->payload.size() + bytes.size() == before.size());
    Require(std::memcmp(prefix.data(), before.data(), prefix.size()) == 0);
  }
}

// Ten bytes a chunk: kind and stream, attempt, sequence, layer, head, slots (two bytes each), and
// what the payload is filled with.
void FuzzReceiver(const uint8_t* data, size_t size) {
  const KvPlan plan = SmallPlan();
  KvReceiver receiver({.plan = plan,
                       .element_bytes = kElementBytes,
                       .num_streams = 2,
                       .attempt = 1,
                       .credit_bytes_per_stream = 4096});
  std::set<std::tuple<ChunkKind, uint32_t, uint32_t, uint32_t>> stored;
  for (; size >= 10; data += 10, size -= 10) {
    ChunkHeader header;
    header.kind = static_cast<ChunkKind>(data[0] % 3);
    header.stream = data[0] / 3 % 3;
    header.attempt = data[1] % 3;
    header.sequence = data[2];
    header.layer = data[3] % 6;
    header.head = data[4] % 6;
    header.slot_begin = data[5] | data[6] << 8;
    header.slot_count = data[7] | data[8] % 2 << 8;
    const uint32_t slot_bytes =
        header.kind == ChunkKind::kPositions ? 4 : plan.head_dim * kElementBytes;
    header.payload_bytes = header.slot_count * slot_bytes;
    std::vector<std::byte> payload(header.payload_bytes);
    for (uint32_t i = 0; i < header.payload_bytes; i += 4) {  // ascending, as positions are
      payload[i] = static_cast<std::byte>(data[9] + i / 4);
    }
    SealChunk(header, payload.data());
    const absl::StatusOr<ChunkAck> ack = receiver.OnChunk(header, payload.data());
    if (!ack.ok() || !ack->is_new) continue;
    const auto layer = static_cast<int>(header.layer);
    Require(layer < plan.num_layers);
    Require(static_cast<int>(header.head) < RowsOf(plan, header.kind, layer));
    for (uint32_t i = 0; i < header.slot_count; ++i) {
      const uint32_t slot = header.slot_begin + i;
      Require(slot < plan.entries(layer));
      Require(stored.emplace(header.kind, header.layer, header.head, slot).second);
    }
    receiver.OnCreditsSent(header.stream, ack->credit_bytes);
  }
}

}  // namespace
}  // namespace winnow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  winnow::FuzzCodec({reinterpret_cast<const std::byte*>(data), size});
  winnow::FuzzReceiver(data, size);
  return 0;
}
