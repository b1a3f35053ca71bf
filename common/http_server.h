#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"

namespace httplib {
class Server;
}

namespace winnow {

// A small HTTP server for a process's own pages (/metrics, /healthz, /readyz). Plain text; binds to
// loopback unless told otherwise. The destructor stops it.
class HttpServer {
 public:
  struct Response {
    int code = 200;
    std::string body;
    std::string content_type = "text/plain; charset=utf-8";
  };
  using Handler = std::function<Response()>;  // called on the server's threads

  struct Options {
    std::string host = "127.0.0.1";
    int port = 0;                        // 0: any free one
    std::map<std::string, Handler> get;  // path → handler
  };

  // UNAVAILABLE when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(Options options);
  ~HttpServer();

  int port() const { return port_; }

 private:
  HttpServer();
  std::unique_ptr<httplib::Server> server_;
  std::thread thread_;
  int port_ = 0;
};

}  // namespace winnow
