#pragma once

#include <string>
#include <string_view>

#include "common/trace_context.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"

namespace winnow {

inline constexpr char kTraceHeader[] = "traceparent";

// The "traceparent" header of a call; empty when there is none.
inline std::string TraceparentOf(const grpc::ServerContextBase& context) {
  const auto header = context.client_metadata().find(kTraceHeader);
  if (header == context.client_metadata().end()) return "";
  return {header->second.data(), header->second.size()};
}

// The trace that a call belongs to; a new one when its caller names none, or not properly.
inline TraceContext TraceOf(const grpc::ServerContextBase& context) {
  const auto trace = TraceContext::Parse(TraceparentOf(context));
  return trace ? *trace : TraceContext::New();
}

// Before the call starts. A trace without an id is not sent.
inline void SendTrace(grpc::ClientContext& context, const TraceContext& trace) {
  if (!trace.trace_id.empty()) context.AddMetadata(kTraceHeader, trace.ToString());
}

// Tells the caller, in the initial metadata. Before the first message.
inline void ReturnTrace(grpc::ServerContextBase& context, const TraceContext& trace) {
  context.AddInitialMetadata(kTraceHeader, trace.ToString());
}

// The id of the trace that the server told; empty when it told none. REQUIRES: the call has ended.
inline std::string TraceReturned(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerInitialMetadata();
  const auto header = metadata.find(kTraceHeader);
  if (header == metadata.end()) return "";
  const auto trace = TraceContext::Parse({header->second.data(), header->second.size()});
  return trace ? trace->trace_id : "";
}

}  // namespace winnow
