// `lorc generate`: the text goes to stdout, what was used to stderr; with --json one object goes to
// stdout at the end. Exit status: 0; 1 where the server or the network failed; 2 where the request
// was wrong; 130 after Ctrl-C, which cancels the call.

#include <google/protobuf/util/time_util.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/rpc/status.pb.h"
#include "lorc/v1/generation.grpc.pb.h"
#include "runtime/tokenizer/utf8.h"
#include "runtime/weights/status_macros.h"
#include "tools/commands.h"

namespace lorc {
namespace {

using Json = nlohmann::ordered_json;

enum ExitStatus { kOk = 0, kFailed = 1, kWrongRequest = 2, kInterrupted = 130 };

struct Options {
  std::string address = "127.0.0.1:50051";
  std::string text;
  bool chat = false;
  std::string system;
  std::optional<uint32_t> max_tokens, min_tokens, top_k, logprobs;
  std::optional<float> temperature, top_p, min_p;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool json = false;
  double timeout_s = 0;  // 0: none
  std::string request_id;
  bool tls = false;
  std::string tls_ca, tls_cert, tls_key, tls_server_name;
  std::string bearer_token_file;
};

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("can't open ", path));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<v1::GenerateRequest> MakeRequest(const Options& options) {
  std::string text = options.text;
  if (text == "-") text.assign(std::istreambuf_iterator<char>(std::cin), {});
  for (const std::string& given : {text, options.system, options.request_id}) {
    if (ValidUtf8Prefix(given) != std::ssize(given)) {
      return absl::InvalidArgumentError("the text is not UTF-8");
    }
  }
  v1::GenerateRequest request;
  request.set_request_id(options.request_id);
  if (options.chat || !options.system.empty()) {
    const auto add = [&request](const char* role, const std::string& content) {
      v1::ChatMessage* message = request.mutable_chat()->add_messages();
      message->set_role(role);
      message->set_content(content);
    };
    if (!options.system.empty()) add("system", options.system);
    add("user", text);
  } else {
    request.set_text(text);
  }
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(*options.temperature);
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.top_p) sampling.set_top_p(*options.top_p);
  if (options.min_p) sampling.set_min_p(*options.min_p);
  if (options.seed) sampling.set_seed(*options.seed);
  v1::StopParams& stop = *request.mutable_stop();
  if (options.max_tokens) stop.set_max_tokens(*options.max_tokens);
  if (options.min_tokens) stop.set_min_tokens(*options.min_tokens);
  if (options.ignore_eos) stop.set_ignore_eos(true);
  for (const std::string& string : options.stop) stop.add_stop_strings(string);
  if (options.logprobs) request.set_logprobs(*options.logprobs);
  return request;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const Options& options) {
  std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
  if (options.tls || !options.tls_ca.empty() || !options.tls_cert.empty()) {
    grpc::SslCredentialsOptions ssl;
    if (!options.tls_ca.empty()) {
      LORC_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadText(options.tls_ca));
    }
    if (!options.tls_cert.empty()) {
      LORC_ASSIGN_OR_RETURN(ssl.pem_cert_chain, ReadText(options.tls_cert));
      LORC_ASSIGN_OR_RETURN(ssl.pem_private_key, ReadText(options.tls_key));
    }
    credentials = grpc::SslCredentials(ssl);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  if (!options.tls_server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls_server_name);
  }
  return grpc::CreateCustomChannel(options.address, credentials, arguments);
}

absl::Status AddToken(const Options& options, grpc::ClientContext* context) {
  if (options.bearer_token_file.empty()) return absl::OkStatus();
  LORC_ASSIGN_OR_RETURN(const std::string content, ReadText(options.bearer_token_file));
  const std::string token(absl::StripAsciiWhitespace(content));
  // gRPC aborts on metadata that a header can't hold.
  if (token.empty() ||
      !std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; })) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.bearer_token_file, ": expected one token of printable ASCII"));
  }
  context->AddMetadata("authorization", absl::StrCat("Bearer ", token));
  return absl::OkStatus();
}

// Cancels the call on SIGINT and SIGTERM while it lives.
class InterruptGuard {
 public:
  explicit InterruptGuard(grpc::ClientContext* context) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    thread_ = std::thread([this, context] {
      const timespec period = {0, 50'000'000};
      while (!is_done_.load()) {
        if (sigtimedwait(&signals_, nullptr, &period) < 0) continue;
        was_interrupted_.store(true);
        context->TryCancel();
      }
    });
  }

  ~InterruptGuard() {
    is_done_.store(true);
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  bool was_interrupted() const { return was_interrupted_.load(); }

 private:
  sigset_t signals_;
  sigset_t before_;
  std::atomic<bool> is_done_{false};
  std::atomic<bool> was_interrupted_{false};
  std::thread thread_;
};

int ReportFailure(const grpc::Status& status, const Options& options) {
  std::string message = absl::StrCat("error: ", status.error_message());
  google::rpc::Status rich;
  google::rpc::RetryInfo retry;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    absl::StrAppend(&message, " (server ", options.address, ")");
  } else if (rich.ParseFromString(status.error_details()) && rich.details_size() > 0 &&
             rich.details(0).UnpackTo(&retry)) {
    absl::StrAppendFormat(
        &message, "; try again in %.1f s",
        static_cast<double>(
            google::protobuf::util::TimeUtil::DurationToMilliseconds(retry.retry_delay())) *
            1e-3);
  }
  std::fprintf(stderr, "%s\n", message.c_str());
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::FAILED_PRECONDITION:
      return kWrongRequest;
    default:
      return kFailed;
  }
}

std::string FinishName(v1::FinishReason finish) {
  constexpr size_t kPrefix = sizeof("FINISH_REASON_") - 1;
  return v1::FinishReason_Name(finish).substr(kPrefix);
}

void PrintUsage(const v1::GenerateResponse& last) {
  const v1::Usage& usage = last.usage();
  const double rate =
      usage.decode_seconds() > 0 ? (usage.generated_tokens() - 1) / usage.decode_seconds() : 0;
  std::fprintf(stderr,
               "%s; %u prompt and %u generated tokens; queue %.1f ms, prefill %.1f ms, decode %.1f "
               "ms (%.1f tokens/s); cache %.2f MiB, uncompressed %.2f MiB\n",
               FinishName(last.finish()).c_str(), usage.prompt_tokens(), usage.generated_tokens(),
               usage.queue_seconds() * 1e3, usage.prefill_seconds() * 1e3,
               usage.decode_seconds() * 1e3, rate, static_cast<double>(usage.kv_bytes()) / 1048576,
               static_cast<double>(usage.kv_bytes_full()) / 1048576);
}

void PrintLogprobs(const v1::GenerateResponse& part) {
  for (const v1::GeneratedToken& token : part.tokens()) {
    std::string line = absl::StrFormat("%6u %9.4f %s", token.id(), token.chosen().logprob(),
                                       Json(token.chosen().text()).dump());
    for (const v1::TokenLogprob& top : token.top()) {
      absl::StrAppendFormat(&line, "  %s %.4f", Json(top.text()).dump(), top.logprob());
    }
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

Json ToJson(const v1::TokenLogprob& from) {
  return {{"id", from.id()}, {"text", from.text()}, {"logprob", from.logprob()}};
}

std::string ToJson(const v1::GenerateResponse& answer) {
  Json tokens = Json::array();
  for (const v1::GeneratedToken& token : answer.tokens()) {
    Json entry = {{"id", token.id()}};
    if (token.has_chosen()) {
      entry["chosen"] = ToJson(token.chosen());
      entry["top"] = Json::array();
      for (const v1::TokenLogprob& top : token.top()) entry["top"].push_back(ToJson(top));
    }
    tokens.push_back(entry);
  }
  const v1::Usage& usage = answer.usage();
  const Json json = {{"text", answer.text()},
                     {"finish", FinishName(answer.finish())},
                     {"matched_stop", usage.matched_stop()},
                     {"prompt_tokens", usage.prompt_tokens()},
                     {"cached_prompt_tokens", usage.cached_prompt_tokens()},
                     {"generated_tokens", usage.generated_tokens()},
                     {"queue_seconds", usage.queue_seconds()},
                     {"prefill_seconds", usage.prefill_seconds()},
                     {"decode_seconds", usage.decode_seconds()},
                     {"kv_bytes", usage.kv_bytes()},
                     {"kv_bytes_full", usage.kv_bytes_full()},
                     {"tokens", tokens}};
  return json.dump(2);
}

absl::StatusOr<int> Generate(const Options& options) {
  LORC_ASSIGN_OR_RETURN(const v1::GenerateRequest request, MakeRequest(options));
  LORC_ASSIGN_OR_RETURN(const auto channel, Connect(options));
  grpc::ClientContext context;
  LORC_RETURN_IF_ERROR(AddToken(options, &context));
  if (options.timeout_s > 0) {
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(static_cast<int64_t>(options.timeout_s * 1e3)));
  }
  const auto stub = v1::GenerationService::NewStub(channel);
  const InterruptGuard interrupt(&context);
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse answer;  // all parts merged
  for (v1::GenerateResponse part; reader->Read(&part);) {
    if (!options.json) {
      std::fwrite(part.text().data(), 1, part.text().size(), stdout);
      std::fflush(stdout);
    }
    const std::string text = answer.text() + part.text();
    answer.MergeFrom(part);
    answer.set_text(text);
  }
  const grpc::Status status = reader->Finish();
  if (!options.json && !answer.text().empty()) std::fputc('\n', stdout);
  if (interrupt.was_interrupted()) {
    std::fprintf(stderr, "cancelled\n");
    return kInterrupted;
  }
  if (!status.ok()) return ReportFailure(status, options);
  if (options.json) {
    std::printf("%s\n", ToJson(answer).c_str());
    return kOk;
  }
  if (options.logprobs) PrintLogprobs(answer);
  PrintUsage(answer);
  return kOk;
}

int Run(const Options& options) {
  const absl::StatusOr<int> status = Generate(options);
  if (status.ok()) return *status;
  std::fprintf(stderr, "error: %s\n", std::string(status.status().message()).c_str());
  return kWrongRequest;
}

}  // namespace

void AddGenerateCommand(CLI::App& app, int* status) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Ask a server and print the answer");
  command->add_option("text", options->text, "the prompt; - reads standard input")
      ->required()
      ->type_name("TEXT");
  command->add_option("--address", options->address, "of the server [127.0.0.1:50051]")
      ->type_name("HOST:PORT");
  command->add_flag("--chat", options->chat, "TEXT is a user's message");
  command->add_option("--system", options->system, "system message; implies --chat");
  command->add_option("--max-tokens", options->max_tokens, "at most so many tokens");
  command->add_option("--min-tokens", options->min_tokens, "no end before so many tokens");
  command->add_option("--temperature", options->temperature, "0..2; 0: greedy");
  command->add_option("--top-k", options->top_k, "0: off");
  command->add_option("--top-p", options->top_p, "(0, 1]");
  command->add_option("--min-p", options->min_p, "[0, 1)");
  command->add_option("--seed", options->seed, "same seed, same answer");
  command->add_option("--stop", options->stop, "ends the answer; may be given several times")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--ignore-eos", options->ignore_eos, "go on past the model's end token");
  command->add_option("--logprobs", options->logprobs, "0..20 best tokens with each token");
  command->add_flag("--json", options->json, "print one JSON object at the end");
  command->add_option("--timeout", options->timeout_s, "seconds; 0: none [0]");
  command->add_option("--request-id", options->request_id, "for the server's log");
  command->add_flag("--tls", options->tls, "TLS with the system's authorities");
  command->add_option("--tls-ca", options->tls_ca, "PEM authority of the server; implies --tls");
  CLI::Option* cert =
      command->add_option("--tls-cert", options->tls_cert, "PEM certificate of this client");
  CLI::Option* key = command->add_option("--tls-key", options->tls_key, "PEM private key");
  cert->needs(key);
  key->needs(cert);
  command->add_option("--tls-server-name", options->tls_server_name,
                      "name in the server's certificate, where it is not the address");
  command->add_option("--bearer-token-file", options->bearer_token_file, "file with one token");
  command->callback([options, status] { *status = Run(*options); });
}

}  // namespace lorc
