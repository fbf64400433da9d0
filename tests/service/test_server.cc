#include "tests/service/test_server.h"

#include <httplib.h>

#include <thread>
#include <utility>

#include "kernels/base/check.h"
#include "runtime/kv/plan_file.h"
#include "tests/support/files.h"

namespace lorc::test {

absl::Status GatedExecutor::Execute(std::span<const SequenceWork> batch,
                                    std::span<StepResult> results) {
  {
    MutexLock lock(mutex_);
    while (is_closed_ && allowed_ == 0) {
      is_blocked_ = true;
      changed_.NotifyAll();
      changed_.Wait(mutex_);
    }
    is_blocked_ = false;
    if (is_closed_) --allowed_;
    for (const SequenceWork& work : batch) {
      if (work.sampling == nullptr) continue;
      last_sampling_ = *work.sampling;
      last_tokens_.assign(work.tokens.begin(), work.tokens.end());
    }
  }
  if (delay_us > 0) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
  if (fails) return absl::DataLossError("the test wants it so");
  return model_->Execute(batch, results);
}

void GatedExecutor::Close() {
  MutexLock lock(mutex_);
  is_closed_ = true;
  allowed_ = 0;
}

void GatedExecutor::Open() {
  MutexLock lock(mutex_);
  is_closed_ = false;
  changed_.NotifyAll();
}

void GatedExecutor::Allow(int steps) {
  MutexLock lock(mutex_);
  allowed_ += steps;
  changed_.NotifyAll();
}

void GatedExecutor::WaitUntilBlocked() {
  MutexLock lock(mutex_);
  while (!is_blocked_ || allowed_ > 0) changed_.Wait(mutex_);
}

SamplingParams GatedExecutor::last_sampling() const {
  MutexLock lock(mutex_);
  return last_sampling_;
}

std::vector<TokenId> GatedExecutor::last_tokens() const {
  MutexLock lock(mutex_);
  return last_tokens_;
}

const TinyModel& Tiny() {
  static const auto* const model = new TinyModel();
  return *model;
}

const std::string& TinyModelPath() {
  static const TempFolder folder;
  static const auto* const path = [] {
    auto* file = new std::string(folder.File("tiny.gguf"));
    LORC_CHECK(WriteTinyGguf(Tiny(), {}, *file).ok());
    return file;
  }();
  return *path;
}

std::string WriteQuarterPlan(const std::string& path) {
  const ModelConfig& config = Tiny().config();
  TensorPlan tensor;
  tensor.layout = KvLayoutKind::kDirect;
  tensor.groups = 1;
  tensor.rank = config.kv_width() / 4;
  tensor.segments = {{SegmentType::kBf16, tensor.rank}};
  tensor.encoder.resize(static_cast<size_t>(tensor.rank) * config.kv_width());
  for (int32_t i = 0; i < tensor.rank; ++i) tensor.encoder[i * config.kv_width() + i] = 1;
  KvPlan plan;
  plan.name = "quarter";
  plan.method = "lorc";
  plan.exact_prefix = 16;
  plan.exact_window = 32;
  plan.anchor = 128;
  plan.layers.assign(config.num_layers, {tensor, tensor});
  LORC_CHECK(WritePlan(plan, path).ok());
  return path;
}

ServerConfig TinyConfig() {
  ServerConfig config;
  config.model = TinyModelPath();
  config.weights = "f32";
  config.threads = 1;
  config.grpc_address = "127.0.0.1:0";
  config.http_address = "127.0.0.1:0";
  config.kv_budget_bytes = 4 << 20;
  config.max_batch_tokens = 64;
  config.max_running = 8;
  config.max_waiting = 16;
  config.default_max_tokens = 16;
  config.log_level = "info";
  return config;
}

TestServer::TestServer(const std::function<void(ServerConfig&)>& edit) : config_(TinyConfig()) {
  if (edit) edit(config_);
  logger_ = std::make_unique<Logger>(LogLevelFromName(config_.log_level),
                                     LogFormatFromName(config_.log_format), log_);
  auto files = OpenModel(config_);
  LORC_CHECK(files.ok());
  auto size = SizeCache(config_, **files);
  LORC_CHECK(size.ok());
  auto server = Server::Listen(config_, logger_.get());
  LORC_CHECK(server.ok());
  server_ = *std::move(server);
  server_->set_executor_wrapper_for_test([this](Executor* model) {
    auto gate = std::make_unique<GatedExecutor>(model);
    gate_ = gate.get();
    return gate;
  });
  LORC_CHECK(server_->Load(*std::move(files), *size, {}).ok());
  channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
  stub_ = v1::GenerationService::NewStub(channel_);
}

TestServer::~TestServer() {
  if (gate_ != nullptr) gate_->Open();
  server_ = nullptr;
}

namespace {

std::string RequestIdOf(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerInitialMetadata();
  const auto it = metadata.find("lorc-request-id");
  return it == metadata.end() ? "" : std::string(it->second.data(), it->second.size());
}

}  // namespace

Reply TestServer::Stream(const v1::GenerateRequest& request, grpc::ClientContext* context) {
  grpc::ClientContext own;
  if (context == nullptr) context = &own;
  Reply answer;
  const auto reader = stub_->Generate(context, request);
  for (v1::GenerateResponse part; reader->Read(&part);) {
    ++answer.num_parts;
    answer.text += part.text();
    for (const v1::GeneratedToken& token : part.tokens()) {
      answer.ids.push_back(token.id());
      answer.tokens.push_back(token);
    }
    if (part.has_finish()) answer.finish = part.finish();
    if (part.has_usage()) answer.usage = part.usage();
  }
  answer.status = reader->Finish();
  answer.request_id = RequestIdOf(*context);
  return answer;
}

Reply TestServer::Once(const v1::GenerateRequest& request, grpc::ClientContext* context) {
  grpc::ClientContext own;
  if (context == nullptr) context = &own;
  v1::GenerateOnceResponse response;
  Reply answer;
  answer.status = stub_->GenerateOnce(context, request, &response);
  answer.text = response.text();
  for (const v1::GeneratedToken& token : response.tokens()) {
    answer.ids.push_back(token.id());
    answer.tokens.push_back(token);
  }
  answer.finish = response.finish();
  answer.usage = response.usage();
  answer.request_id = RequestIdOf(*context);
  return answer;
}

v1::GetServerStatsResponse TestServer::Stats() {
  grpc::ClientContext context;
  v1::GetServerStatsResponse response;
  stub_->GetServerStats(&context, {}, &response);
  return response;
}

bool TestServer::WaitFor(const std::function<bool(const v1::GetServerStatsResponse&)>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition(Stats())) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool TestServer::StepUntil(
    int steps, const std::function<bool(const v1::GetServerStatsResponse&)>& condition) {
  for (; steps > 0; --steps) {
    if (condition(Stats())) return true;
    gate_->Allow(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WaitFor(condition);
}

bool TestServer::IsIdle(const v1::GetServerStatsResponse& stats) {
  return stats.requests_running() == 0 && stats.requests_waiting() == 0 &&
         stats.kv_written_bytes() == 0 && stats.kv_promised_bytes() == 0 &&
         stats.blocks_free() == stats.blocks_total() && stats.blocks_total() > 0;
}

bool TestServer::WaitUntilIdle() { return WaitFor(IsIdle); }

std::pair<int, std::string> TestServer::Get(const std::string& path) {
  httplib::Client client("http://" + server_->http_address());
  client.set_read_timeout(10);
  const auto result = client.Get(path.c_str());
  if (!result) return {0, ""};
  return {result->status, result->body};
}

TestServer& Shared() {
  static auto* const server = new TestServer();
  return *server;
}

v1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_stop()->set_max_tokens(max_tokens);
  request.mutable_stop()->set_ignore_eos(true);
  return request;
}

}  // namespace lorc::test
