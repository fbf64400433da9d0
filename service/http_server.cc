#include "service/http_server.h"

#include <httplib.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"
#include "service/listen_check.h"

namespace lorc {
namespace {

constexpr size_t kThreads = 4;  // each may be held by one open connection
constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kTextType[] = "text/plain; charset=utf-8";

void SetLimits(httplib::Server* server) {
  server->new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server->set_keep_alive_max_count(100'000);  // a scraper's connection lives for long
  server->set_keep_alive_timeout(5);
  server->set_read_timeout(5);
  server->set_write_timeout(5);
  server->set_payload_max_length(64 << 10);
  // Not the default, which lets a second server have the same port.
  server->set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
}

void Answer(httplib::Response& response, bool good, const char* yes, const char* no) {
  response.status = good ? 200 : 503;
  response.set_content(good ? yes : no, kTextType);
}

}  // namespace

HttpServer::HttpServer(HostPort address, Handlers handlers)
    : address_(std::move(address)),
      handlers_(std::move(handlers)),
      server_(std::make_unique<httplib::Server>()) {
  SetLimits(server_.get());
  server_->Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(handlers_.metrics(), kMetricsType);
  });
  server_->Get("/healthz", [this](const httplib::Request&, httplib::Response& response) {
    lorc::Answer(response, handlers_.is_alive(), "ok\n", "the engine has failed or stands still\n");
  });
  server_->Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
    lorc::Answer(response, handlers_.is_ready(), "ready\n", "not ready\n");
  });
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HostPort& address,
                                                              Handlers handlers) {
  LORC_RETURN_IF_ERROR(CheckCanListen(address));
  std::unique_ptr<HttpServer> server(new HttpServer(address, std::move(handlers)));
  httplib::Server& http = *server->server_;
  if (address.port == 0) {
    server->address_.port = http.bind_to_any_port(address.host);
  } else if (!http.bind_to_port(address.host, address.port)) {
    server->address_.port = -1;
  }
  if (server->address_.port <= 0) {
    return absl::UnavailableError(absl::StrCat("can't listen on ", address.ToString()));
  }
  server->thread_ = std::thread([&http] { http.listen_after_bind(); });
  // A stop before it runs would be lost.
  while (!http.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return server;
}

HttpServer::~HttpServer() {
  if (!thread_.joinable()) return;
  server_->stop();
  thread_.join();
}

}  // namespace lorc
