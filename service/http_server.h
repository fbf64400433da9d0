// The plain HTTP port: /metrics, /healthz (alive), /readyz (serves new requests). All answers come
// from snapshots.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "service/host_port.h"

namespace httplib {
class Server;
}

namespace lorc {

class HttpServer {
 public:
  // Called by several threads at once; quick.
  struct Handlers {
    std::function<std::string()> metrics;  // text exposition format
    std::function<bool()> is_alive;        // false: only a restart helps
    std::function<bool()> is_ready;
  };

  // Listens from now on. UNAVAILABLE where the port can't be had.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HostPort& address,
                                                           Handlers handlers);
  ~HttpServer();

  const HostPort& address() const { return address_; }  // with the port that was picked

 private:
  HttpServer(HostPort address, Handlers handlers);

  HostPort address_;
  const Handlers handlers_;
  std::unique_ptr<httplib::Server> server_;
  std::thread thread_;
};

}  // namespace lorc
