// Keeps grpc.health.v1 true to the engine's progress, and cuts clients that take nothing.
#pragma once

#include <grpcpp/health_check_service_interface.h>

#include <cstdint>
#include <string>
#include <thread>

#include "scheduler/mutex.h"
#include "service/serving.h"

namespace lorc {

class HealthMonitor {
 public:
  // `state` and `health` outlive it. Looks ten times a second; says NOT_SERVING until told of
  // readiness by IsReady(*state).
  HealthMonitor(ServiceState* state, grpc::HealthCheckServiceInterface* health);
  ~HealthMonitor();

  // Looks now, and returns when watchers are being told.
  void Update();

 private:
  void Run();

  ServiceState* const state_;
  grpc::HealthCheckServiceInterface* const health_;

  Mutex mutex_;
  CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_serving_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lorc
