#include "transfer/chunk_codec.h"

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/crc32c.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr uint16_t kHeaderVersion = 1;   // the header is as it was in wire version 1
constexpr uint32_t kMagic = 0x31564B57;  // "WKV1", little endian
constexpr int kChecksummedBytes = 44;    // the header before its checksum
constexpr std::byte kHeaderTag{0x0A};    // field 1, length-delimited
constexpr std::byte kPayloadTag{0x12};   // field 2, length-delimited

using Encoded = std::array<std::byte, kChunkHeaderBytes>;

// Little endian, whatever the host.
template <typename T>
void Put(Encoded& out, int at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[at + i] = static_cast<std::byte>(value >> (8 * i));
}
template <typename T>
T Get(const std::byte* in) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(in[i]) << (8 * i);
  return value;
}

Encoded EncodeHeader(const ChunkHeader& h) {
  Encoded out{};
  Put<uint32_t>(out, 0, kMagic);
  Put<uint16_t>(out, 4, kHeaderVersion);
  Put<uint8_t>(out, 6, static_cast<uint8_t>(h.kind));
  Put<uint32_t>(out, 8, h.stream);
  Put<uint32_t>(out, 12, h.attempt);
  Put<uint64_t>(out, 16, h.sequence);
  Put<uint32_t>(out, 24, h.layer);
  Put<uint32_t>(out, 28, h.head);
  Put<uint32_t>(out, 32, h.slot_begin);
  Put<uint32_t>(out, 36, h.slot_count);
  Put<uint32_t>(out, 40, h.payload_bytes);
  Put<uint32_t>(out, 44, h.crc32c);
  return out;
}

uint32_t Checksum(const std::byte* encoded_header, const std::byte* payload,
                  uint32_t payload_bytes) {
  return Crc32c(payload, payload_bytes, Crc32c(encoded_header, kChecksummedBytes));
}

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError(absl::StrCat("KV chunk: ", what));
}
absl::Status Foreign(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("KV chunk: ", what));
}

// Reads a varint and moves `at` behind it; false when it is truncated or longer than five bytes.
bool ReadVarint(absl::Span<const std::byte> in, size_t& at, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (at >= in.size()) return false;
    const auto byte = static_cast<uint64_t>(in[at++]);
    value |= (byte & 0x7F) << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

absl::StatusOr<ChunkHeader> DecodeHeader(const std::byte* in) {
  if (Get<uint32_t>(in) != kMagic) return Foreign("the header does not begin with WKV1");
  if (const auto version = Get<uint16_t>(in + 4); version != kHeaderVersion) {
    return Foreign(absl::StrCat("header version must be ", kHeaderVersion, ", got ", version));
  }
  const auto kind = Get<uint8_t>(in + 6);
  if (kind > 2 || Get<uint8_t>(in + 7) != 0) return Foreign(absl::StrCat("unknown kind ", kind));
  ChunkHeader h;
  h.kind = static_cast<ChunkKind>(kind);
  h.stream = Get<uint32_t>(in + 8);
  h.attempt = Get<uint32_t>(in + 12);
  h.sequence = Get<uint64_t>(in + 16);
  h.layer = Get<uint32_t>(in + 24);
  h.head = Get<uint32_t>(in + 28);
  h.slot_begin = Get<uint32_t>(in + 32);
  h.slot_count = Get<uint32_t>(in + 36);
  h.payload_bytes = Get<uint32_t>(in + 40);
  h.crc32c = Get<uint32_t>(in + 44);
  return h;
}

}  // namespace

void SealChunk(ChunkHeader& header, const std::byte* payload) {
  header.crc32c = Checksum(EncodeHeader(header).data(), payload, header.payload_bytes);
}

std::string EncodePrefix(const ChunkHeader& header) {
  const Encoded encoded = EncodeHeader(header);
  std::string out;
  out.push_back(static_cast<char>(kHeaderTag));
  out.push_back(static_cast<char>(kChunkHeaderBytes));
  out.append(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  out.push_back(static_cast<char>(kPayloadTag));
  uint32_t left = header.payload_bytes;
  for (; left >= 0x80; left >>= 7) out.push_back(static_cast<char>(left | 0x80));
  out.push_back(static_cast<char>(left));
  return out;
}

absl::StatusOr<DecodedChunk> TakeChunk(absl::Span<const std::byte>& rest) {
  constexpr size_t kHeaderEnd = 2 + kChunkHeaderBytes;
  const absl::Span<const std::byte> message = rest;
  if (message.size() <= kHeaderEnd) return Damaged(absl::StrCat("only ", message.size(), " bytes"));
  if (message[0] != kHeaderTag || message[1] != std::byte{kChunkHeaderBytes} ||
      message[kHeaderEnd] != kPayloadTag) {
    return Damaged(
        absl::StrCat("expected a header of ", kChunkHeaderBytes, " bytes, then a payload"));
  }
  size_t at = kHeaderEnd + 1;
  uint64_t payload_bytes = 0;
  if (!ReadVarint(message, at, payload_bytes)) return Damaged("the payload's length is truncated");
  if (payload_bytes > message.size() - at) {
    return Damaged(absl::StrCat("the message says ", payload_bytes,
                                " payload bytes, and there are ", message.size() - at));
  }
  if (payload_bytes > kMaxChunkPayload) {
    return Foreign(
        absl::StrCat("a payload has at most ", kMaxChunkPayload, " bytes, got ", payload_bytes));
  }
  const std::byte* header = message.data() + 2;
  const absl::Span<const std::byte> payload = message.subspan(at, payload_bytes);
  const uint32_t checksum = Checksum(header, payload.data(), static_cast<uint32_t>(payload_bytes));
  if (checksum != Get<uint32_t>(header + kChecksummedBytes)) {
    return Damaged(
        absl::StrCat("checksum mismatch over a header and ", payload_bytes, " payload bytes"));
  }
  WINNOW_ASSIGN_OR_RETURN(const ChunkHeader decoded, DecodeHeader(header));
  if (decoded.payload_bytes != payload_bytes) {
    return Damaged(absl::StrCat("the header says ", decoded.payload_bytes,
                                " payload bytes, the message ", payload_bytes));
  }
  rest.remove_prefix(at + payload_bytes);
  return DecodedChunk{decoded, payload};
}

}  // namespace winnow
