#include "service/health_monitor.h"

#include "lorc/v1/generation.grpc.pb.h"
#include "service/info_responses.h"

namespace lorc {
namespace {

constexpr int64_t kPeriodNs = 100'000'000;

}  // namespace

HealthMonitor::HealthMonitor(ServiceState* state, grpc::HealthCheckServiceInterface* health)
    : state_(state), health_(health) {
  health_->SetServingStatus("", false);
  health_->SetServingStatus(v1::GenerationService::service_full_name(), false);
  thread_ = std::thread([this] { Run(); });
}

HealthMonitor::~HealthMonitor() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void HealthMonitor::Update() {
  MutexLock lock(mutex_);
  const bool serving = IsReady(*state_);
  if (serving == is_serving_) return;
  is_serving_ = serving;
  health_->SetServingStatus("", serving);
  health_->SetServingStatus(v1::GenerationService::service_full_name(), serving);
  state_->logger->Info("health", {{"serving", serving}});
}

void HealthMonitor::Run() {
  for (;;) {
    Update();
    // The engine ends a slow reader's request after one timeout; its client has another one to
    // fetch what is left.
    const int64_t now_ns = Engine::NowNs();
    const int64_t cut = state_->calls.CutStuck(now_ns, 2 * state_->config.slow_reader_timeout_ns);
    if (cut > 0) state_->logger->Warning("cut_stuck_clients", {{"calls", cut}});
    MutexLock lock(mutex_);
    const int64_t until_ns = now_ns + kPeriodNs;
    while (!stop_ && Engine::NowNs() < until_ns) wake_.WaitUntil(mutex_, until_ns);
    if (stop_) return;
  }
}

}  // namespace lorc
