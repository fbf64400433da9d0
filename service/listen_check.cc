#include "service/listen_check.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"

namespace lorc {
namespace {

// errno of a bind, 0 if it worked.
int TryBind(const addrinfo& info) {
  const int fd = socket(info.ai_family, info.ai_socktype, info.ai_protocol);
  if (fd < 0) return errno;
  // As servers do: connections of a former life do not count.
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  int error = bind(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  if (error == 0 && listen(fd, 1) != 0) error = errno;
  close(fd);
  return error;
}

}  // namespace

absl::Status CheckCanListen(const HostPort& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failure =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failure != 0) {
    return absl::NotFoundError(absl::StrCat("can't listen on ", address.ToString(),
                                            ": the host has no address: ", gai_strerror(failure)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  int last_error = 0;
  bool any = false;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    const int error = TryBind(*info);
    any = any || error == 0;
    if (error != 0) last_error = error;
    // Somebody else there would take some of our clients.
    if (error == EADDRINUSE) any = false;
    if (error == EADDRINUSE) break;
  }
  if (any) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("can't listen on ", address.ToString(), ": ", std::strerror(last_error),
                   last_error == EADDRINUSE ? "; is another server running?" : ""));
}

}  // namespace lorc
