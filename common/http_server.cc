#include "common/http_server.h"

#include <httplib.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"

namespace winnow {

HttpServer::HttpServer() = default;

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(Options options) {
  auto http = std::unique_ptr<HttpServer>(new HttpServer());
  http->server_ = std::make_unique<httplib::Server>();
  // The library's default, SO_REUSEPORT, would let two processes share a port and split the
  // requests.
  http->server_->set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  // stop() waits for open connections, so none is kept, and one that sends nothing is soon given
  // up.
  http->server_->set_keep_alive_max_count(1);
  http->server_->set_keep_alive_timeout(1);
  for (const auto& route : options.get) {
    http->server_->Get(route.first,
                       [handler = route.second](const httplib::Request&, httplib::Response& out) {
                         const Response response = handler();
                         out.status = response.code;
                         out.set_content(response.body, response.content_type.c_str());
                       });
  }
  if (options.port == 0) {
    http->port_ = http->server_->bind_to_any_port(options.host.c_str());
  } else if (http->server_->bind_to_port(options.host.c_str(), options.port)) {
    http->port_ = options.port;
  }
  if (http->port_ <= 0) {
    return absl::UnavailableError(absl::StrCat("HTTP server: cannot listen on ",
                                               HostPort{options.host, options.port}.ToString()));
  }
  auto ended = std::make_shared<std::atomic<bool>>(false);
  http->thread_ = std::thread([server = http->server_.get(), ended] {
    server->listen_after_bind();
    *ended = true;
  });
  // stop() before the accept loop runs would be lost, so Create returns once it does, or could not.
  while (!http->server_->is_running() && !*ended)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (*ended)
    return absl::UnavailableError(absl::StrCat("HTTP server: cannot accept on ",
                                               HostPort{options.host, http->port_}.ToString()));
  return http;
}

HttpServer::~HttpServer() {
  if (!thread_.joinable()) return;
  server_->stop();
  thread_.join();
}

}  // namespace winnow
