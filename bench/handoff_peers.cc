#include "bench/handoff_peers.h"

#include <arpa/inet.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <vector>

#include "rpc/bulk_arguments.h"
#include "rpc/channel.h"
#include "rpc/tls.h"

namespace winnow {
namespace {

constexpr int64_t kMessage = 1 << 20;

[[noreturn]] void Die(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(1);
}

// Part `index` of `count` nearly equal ones.
struct Part {
  int64_t begin, end;
};
Part PartOf(int64_t bytes, int index, int count) {
  return {bytes * index / count, bytes * (index + 1) / count};
}

class Drop final : public grpc::ServerGenericBidiReactor {
 public:
  Drop() { StartRead(&message_); }
  void OnReadDone(bool ok) override { ok ? StartRead(&message_) : Finish(grpc::Status::OK); }
  void OnDone() override { delete this; }

 private:
  grpc::ByteBuffer message_;
};

class DropService final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Drop;
  }
};

// One stream of messages that point into memory which outlives it.
class SendStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  SendStream(const std::shared_ptr<grpc::Channel>& channel, const std::byte* data, Part part)
      : stub_(channel), data_(data), part_(part) {
    stub_.PrepareBidiStreamingCall(&context_, "/bench/Drop", grpc::StubOptions(), this);
    WriteNext();
    StartCall();
  }
  void Wait() { done_.get_future().get(); }
  void OnWriteDone(bool ok) override {
    if (ok) WriteNext();
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) Die("bare gRPC: " + status.error_message());
    done_.set_value();
  }

 private:
  void WriteNext() {
    if (part_.begin == part_.end) {
      StartWritesDone();
      return;
    }
    const int64_t size = std::min(kMessage, part_.end - part_.begin);
    const grpc::Slice slice(const_cast<std::byte*>(data_ + part_.begin), size, [](void*) {});
    part_.begin += size;
    message_ = grpc::ByteBuffer(&slice, 1);
    StartWrite(&message_);
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  const std::byte* const data_;
  Part part_;
  grpc::ByteBuffer message_;
  std::promise<void> done_;
};

class GrpcPipe final : public BytePipe {
 public:
  GrpcPipe(int connections, const ServerSecurity& security) {
    const auto credentials = MakeServerCredentials(security.tls, security.asks_for_certificate);
    if (!credentials.ok()) Die(credentials.status().ToString());
    grpc::ServerBuilder builder;
    SetBulkArguments([&](const char* name, int value) { builder.AddChannelArgument(name, value); });
    int port = 0;
    builder.SetMaxReceiveMessageSize(2 * kMessage);
    builder.AddListeningPort("127.0.0.1:0", *credentials, &port);
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    for (int i = 0; i < connections; ++i) {
      const auto channel = MakeChannel("127.0.0.1:" + std::to_string(port),
                                       {.own_connection = true, .tls = security.tls});
      if (!channel.ok()) Die(channel.status().ToString());
      channels_.push_back(*channel);
    }
  }
  ~GrpcPipe() override { server_->Shutdown(); }

  void Send(const std::byte* data, int64_t bytes) override {
    const auto count = static_cast<int>(channels_.size());
    std::vector<std::unique_ptr<SendStream>> streams;
    for (int i = 0; i < count; ++i) {
      streams.push_back(std::make_unique<SendStream>(channels_[i], data, PartOf(bytes, i, count)));
    }
    for (const auto& stream : streams) stream->Wait();
  }

 private:
  DropService service_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
};

class TcpPipe final : public BytePipe {
 public:
  explicit TcpPipe(int connections) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener, generic, length) != 0 || listen(listener, connections) != 0 ||
        getsockname(listener, generic, &length) != 0) {
      Die("TCP: cannot listen");
    }
    for (int i = 0; i < connections; ++i) {
      const int from = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(from, generic, length) != 0) Die("TCP: cannot connect");
      pairs_.push_back({from, accept(listener, nullptr, nullptr)});
    }
    close(listener);
  }
  ~TcpPipe() override {
    for (const Pair& pair : pairs_) close(pair.from), close(pair.to);
  }

  void Send(const std::byte* data, int64_t bytes) override {
    const auto count = static_cast<int>(pairs_.size());
    std::vector<std::thread> threads;
    for (int i = 0; i < count; ++i) {
      const Part part = PartOf(bytes, i, count);
      threads.emplace_back([this, i, data, part] {
        for (int64_t at = part.begin; at < part.end;) {
          const int64_t size = std::min(kMessage, part.end - at);
          const ssize_t sent = send(pairs_[i].from, data + at, size, 0);
          if (sent <= 0) Die("TCP: cannot send");
          at += sent;
        }
      });
      threads.emplace_back([this, i, part] {
        std::vector<std::byte> buffer(kMessage);
        for (int64_t left = part.end - part.begin; left > 0;) {
          const ssize_t got =
              recv(pairs_[i].to, buffer.data(), std::min<int64_t>(left, kMessage), 0);
          if (got <= 0) Die("TCP: cannot receive");
          left -= got;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  struct Pair {
    int from, to;
  };
  std::vector<Pair> pairs_;
};

}  // namespace

std::unique_ptr<BytePipe> MakeGrpcPipe(int connections, const ServerSecurity& security) {
  return std::make_unique<GrpcPipe>(connections, security);
}

std::unique_ptr<BytePipe> MakeTcpPipe(int connections) {
  return std::make_unique<TcpPipe>(connections);
}

}  // namespace winnow
