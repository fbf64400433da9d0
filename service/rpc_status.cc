#include "service/rpc_status.h"

#include <google/protobuf/util/time_util.h>

#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"

namespace lorc {
namespace {

// Trailers have 8 KiB in all, and bytes beyond ASCII take three each.
constexpr size_t kMaxMessageBytes = 1536;

std::string Shortened(absl::string_view message) {
  std::string text(message.data(), message.size());
  if (text.size() <= kMaxMessageBytes) return text;
  size_t end = kMaxMessageBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + " ...";
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, int64_t retry_after_ns) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Shortened(status.message());
  if (retry_after_ns <= 0) return grpc::Status(code, message);
  google::rpc::RetryInfo retry;
  *retry.mutable_retry_delay() =
      google::protobuf::util::TimeUtil::NanosecondsToDuration(retry_after_ns);
  google::rpc::Status rich;
  rich.set_code(code);
  rich.set_message(message);
  rich.add_details()->PackFrom(retry);
  return grpc::Status(code, message, rich.SerializeAsString());
}

absl::Status FieldError(const std::string& field, const std::string& value,
                        const std::string& range) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", expected ", range));
}

}  // namespace lorc
