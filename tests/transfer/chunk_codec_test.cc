#include "transfer/chunk_codec.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/crc32c.h"

namespace winnow {
namespace {

// A whole Push message.
std::vector<std::byte> Encode(ChunkHeader header, const std::vector<std::byte>& payload) {
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  SealChunk(header, payload.data());
  const std::string prefix = EncodePrefix(header);
  const auto* begin = reinterpret_cast<const std::byte*>(prefix.data());
  std::vector<std::byte> message(begin, begin + prefix.size());
  message.insert(message.end(), payload.begin(), payload.end());
  return message;
}

// The only chunk of a message.
absl::StatusOr<DecodedChunk> DecodeWhole(absl::Span<const std::byte> message) {
  absl::StatusOr<DecodedChunk> chunk = TakeChunk(message);
  if (!chunk.ok() || message.empty()) return chunk;
  return TakeChunk(message);
}

std::vector<std::byte> SomePayload(size_t bytes) {
  std::vector<std::byte> payload(bytes);
  for (size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::byte>(i * 37 + 11);
  return payload;
}

// Every field differs from its default and from the others.
ChunkHeader SomeHeader() {
  return {.kind = ChunkKind::kPositions,
          .stream = 0x01020304,
          .attempt = 0x05060708,
          .sequence = 0x1112131415161718,
          .layer = 0x21222324,
          .head = 0x31323334,
          .slot_begin = 0x41424344,
          .slot_count = 0x51525354};
}

// A message whose header was changed after sealing and sealed again, so that only the change is
// wrong.
std::vector<std::byte> WithHeaderByte(int at, std::byte value) {
  std::vector<std::byte> message = Encode(SomeHeader(), SomePayload(10));
  message[2 + at] = value;
  const uint32_t crc =
      Crc32c(message.data() + message.size() - 10, 10, Crc32c(message.data() + 2, 44));
  for (int i = 0; i < 4; ++i) message[2 + 44 + i] = static_cast<std::byte>(crc >> (8 * i));
  return message;
}

TEST(ChunkCodecTest, WhatIsEncodedComesBack) {
  // Sizes around the steps of the length's varint.
  for (size_t bytes : {0, 1, 127, 128, 16383, 16384, 1 << 20}) {
    const std::vector<std::byte> payload = SomePayload(bytes);
    const std::vector<std::byte> message = Encode(SomeHeader(), payload);
    const auto chunk = DecodeWhole(message);
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    ChunkHeader expected = SomeHeader();
    expected.payload_bytes = static_cast<uint32_t>(bytes);
    expected.crc32c = chunk->header.crc32c;
    EXPECT_EQ(chunk->header, expected);
    EXPECT_TRUE(
        std::equal(payload.begin(), payload.end(), chunk->payload.begin(), chunk->payload.end()));
  }
}

TEST(ChunkCodecTest, ChunksOfOneMessageComeOneByOne) {
  std::vector<std::byte> message;
  for (size_t bytes : {5, 0, 300}) {
    const std::vector<std::byte> chunk = Encode(SomeHeader(), SomePayload(bytes));
    message.insert(message.end(), chunk.begin(), chunk.end());
  }
  absl::Span<const std::byte> rest = message;
  for (size_t bytes : {5, 0, 300}) {
    const auto chunk = TakeChunk(rest);
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    EXPECT_EQ(chunk->payload.size(), bytes);
  }
  EXPECT_TRUE(rest.empty());
}

TEST(ChunkCodecTest, TheHeaderIsLaidOutAsDocumented) {
  const std::vector<std::byte> message = Encode(SomeHeader(), SomePayload(3));
  const std::vector<int> documented = {
      0x0A, 48,                                        // field 1, 48 bytes
      'W',  'K',  'V',  '1',  1,    0,    2,    0,     // magic, version, kind, zero
      0x04, 0x03, 0x02, 0x01, 0x08, 0x07, 0x06, 0x05,  // stream, attempt
      0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,  // sequence
      0x24, 0x23, 0x22, 0x21, 0x34, 0x33, 0x32, 0x31,  // layer, head
      0x44, 0x43, 0x42, 0x41, 0x54, 0x53, 0x52, 0x51,  // slot_begin, slot_count
      3,    0,    0,    0};                            // payload_bytes; the checksum follows
  for (size_t i = 0; i < documented.size(); ++i) {
    EXPECT_EQ(static_cast<int>(message[i]), documented[i]) << "byte " << i;
  }
  EXPECT_EQ(static_cast<int>(message[2 + 48]), 0x12);
  EXPECT_EQ(static_cast<int>(message[2 + 48 + 1]), 3);
}

TEST(ChunkCodecTest, EveryTruncationIsDataLoss) {
  const std::vector<std::byte> message = Encode(SomeHeader(), SomePayload(200));
  for (size_t size = 0; size < message.size(); ++size) {
    const auto chunk = DecodeWhole(absl::MakeSpan(message).first(size));
    EXPECT_EQ(chunk.status().code(), absl::StatusCode::kDataLoss) << size << " bytes";
  }
}

TEST(ChunkCodecTest, TrailingBytesAreDataLoss) {
  std::vector<std::byte> message = Encode(SomeHeader(), SomePayload(20));
  message.push_back(std::byte{0});
  EXPECT_EQ(DecodeWhole(message).status().code(), absl::StatusCode::kDataLoss);
}

TEST(ChunkCodecTest, EveryFlippedBitIsDataLoss) {
  const std::vector<std::byte> message = Encode(SomeHeader(), SomePayload(300));
  for (size_t bit = 0; bit < 8 * message.size(); ++bit) {
    std::vector<std::byte> damaged = message;
    damaged[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_EQ(DecodeWhole(damaged).status().code(), absl::StatusCode::kDataLoss)
        << "bit " << bit % 8 << " of byte " << bit / 8;
  }
}

TEST(ChunkCodecTest, AnIntactMessageOfAnotherKindIsInvalid) {
  ASSERT_TRUE(DecodeWhole(WithHeaderByte(6, std::byte{0})).ok());  // keys
  const std::pair<int, std::byte> changes[] = {
      {0, std::byte{'X'}}, {4, std::byte{9}}, {6, std::byte{3}}, {7, std::byte{1}}};
  for (const auto& [at, value] : changes) {
    EXPECT_EQ(DecodeWhole(WithHeaderByte(at, value)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << "byte " << at;
  }
}

TEST(ChunkCodecTest, ALengthInTheHeaderThatIsNotTheMessagesIsDataLoss) {
  EXPECT_EQ(DecodeWhole(WithHeaderByte(40, std::byte{11})).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(ChunkCodecTest, AnOversizedPayloadIsInvalid) {
  EXPECT_TRUE(DecodeWhole(Encode(SomeHeader(), SomePayload(kMaxChunkPayload))).ok());
  EXPECT_EQ(DecodeWhole(Encode(SomeHeader(), SomePayload(kMaxChunkPayload + 1))).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace winnow
