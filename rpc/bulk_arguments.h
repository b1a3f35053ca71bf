#pragma once

#include "grpc/grpc.h"

namespace winnow {

// What lets KV chunks of a mebibyte travel with few copies and wake-ups: gRPC is tuned for small
// messages (frames of 16 KiB, reads of 8 KiB). `set` gets the name and value of each channel
// argument, for both ends.
template <typename Set>
void SetBulkArguments(Set set) {
  set(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 2 << 20);
  set(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 8 << 20);
  // Reads go into slices of 64 KiB. gRPC 1.51 loses the list of a TLS connection's slices, 576
  // bytes, when there are more than eight.
  constexpr int kRead = 7 * (64 << 10);
  set(GRPC_ARG_TCP_READ_CHUNK_SIZE, kRead);
  set(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, 64 << 10);
  set(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kRead);
}

}  // namespace winnow
