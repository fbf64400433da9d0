#include "tests/service/health_client.h"

#include "scheduler/engine.h"

namespace lorc::test {
namespace {

// message HealthCheckRequest { string service = 1; }
grpc::ByteBuffer RequestFor(const std::string& service) {
  std::string bytes;
  if (!service.empty()) {
    bytes.push_back('\x0a');
    bytes.push_back(static_cast<char>(service.size()));
    bytes += service;
  }
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

// message HealthCheckResponse { ServingStatus status = 1; }
int StatusOf(const grpc::ByteBuffer& response) {
  grpc::Slice slice;
  if (!response.DumpToSingleSlice(&slice).ok() || slice.size() != 2) return -1;
  return slice.begin()[1];
}

bool Next(grpc::CompletionQueue& queue) {
  void* tag = nullptr;
  bool ok = false;
  return queue.Next(&tag, &ok) && ok;
}

}  // namespace

int CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service,
                grpc::Status* status) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", RequestFor(service), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status own;
  if (status == nullptr) status = &own;
  call->Finish(&response, status, nullptr);
  Next(queue);
  return status->ok() ? StatusOf(response) : -1;
}

HealthWatch::HealthWatch(const std::shared_ptr<grpc::Channel>& channel, const std::string& service)
    : stub_(channel), request_(RequestFor(service)) {
  call_ = stub_.PrepareCall(&context_, "/grpc.health.v1.Health/Watch", &queue_);
  call_->StartCall(nullptr);
  thread_ = std::thread([this] { Run(); });
}

HealthWatch::~HealthWatch() {
  context_.TryCancel();
  thread_.join();
}

void HealthWatch::Run() {
  if (Next(queue_)) {
    call_->WriteLast(request_, {}, nullptr);
    for (bool ok = Next(queue_); ok;) {
      grpc::ByteBuffer response;
      call_->Read(&response, nullptr);
      ok = Next(queue_);
      if (!ok) break;
      MutexLock lock(mutex_);
      seen_.push_back(StatusOf(response));
      changed_.NotifyAll();
    }
  }
  grpc::Status status;
  call_->Finish(&status, nullptr);
  Next(queue_);
}

bool HealthWatch::WaitFor(int serving_status) {
  const int64_t until_ns = Engine::NowNs() + 10'000'000'000;
  MutexLock lock(mutex_);
  while (seen_.empty() || seen_.back() != serving_status) {
    if (Engine::NowNs() >= until_ns) return false;
    changed_.WaitUntil(mutex_, until_ns);
  }
  return true;
}

std::vector<int> HealthWatch::seen() const {
  MutexLock lock(mutex_);
  return seen_;
}

}  // namespace lorc::test
