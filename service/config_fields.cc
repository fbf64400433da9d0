#include "service/config_fields.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/weights/status_macros.h"
#include "service/config_values.h"

namespace lorc {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr int32_t kMost32 = std::numeric_limits<int32_t>::max();

std::string Range(const std::string& least, const std::string& most) {
  return most.empty() ? absl::StrCat("at least ", least) : absl::StrCat(least, "..", most);
}

absl::Status OutOfRange(const std::string& text, const std::string& range) {
  return absl::InvalidArgumentError(absl::StrCat("is ", text, ", expected ", range));
}

ConfigField Text(const char* name, const char* type, std::string ServerConfig::*member,
                 const char* help) {
  return {name, type, help,
          [member](const std::string& text, ServerConfig& config) {
            config.*member = text;
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return config.*member; }};
}

ConfigField Choice(const char* name, std::string ServerConfig::*member,
                   std::vector<std::string> choices, const char* help) {
  const std::string all = absl::StrJoin(choices, "|");
  return {name, all, help,
          [member, choices, all](const std::string& text, ServerConfig& config) {
            if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
              return OutOfRange(absl::StrCat("\"", text, "\""), all);
            }
            config.*member = text;
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return config.*member; }};
}

template <typename T>
ConfigField Integer(const char* name, T ServerConfig::*member, int64_t least, int64_t most,
                    const char* help) {
  return {name, "N", help,
          [=](const std::string& text, ServerConfig& config) -> absl::Status {
            LORC_ASSIGN_OR_RETURN(const int64_t value, ParseInteger(text));
            if (value < least || value > most) {
              const bool open = most == kMost || most == kMost32;
              return OutOfRange(text, Range(absl::StrCat(least), open ? "" : absl::StrCat(most)));
            }
            config.*member = static_cast<T>(value);
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return absl::StrCat(config.*member); }};
}

ConfigField Bytes(const char* name, int64_t ServerConfig::*member, int64_t least, int64_t most,
                  const char* help) {
  return {name, "BYTES", help,
          [=](const std::string& text, ServerConfig& config) -> absl::Status {
            LORC_ASSIGN_OR_RETURN(const int64_t value, ParseBytes(text));
            if (value < least || value > most) {
              return OutOfRange(text,
                                Range(FormatBytes(least), most == kMost ? "" : FormatBytes(most)));
            }
            config.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return FormatBytes(config.*member); }};
}

ConfigField Duration(const char* name, int64_t ServerConfig::*member, int64_t least,
                     const char* help) {
  constexpr int64_t kYear = 365 * 24 * 3600 * kSecond;
  return {name, "DURATION", help,
          [=](const std::string& text, ServerConfig& config) -> absl::Status {
            LORC_ASSIGN_OR_RETURN(const int64_t value, ParseDuration(text));
            if (value < least || value > kYear) {
              return OutOfRange(text, Range(FormatDuration(least), "1 year"));
            }
            config.*member = value;
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return FormatDuration(config.*member); }};
}

// `open_low`: the least value itself is not possible; `open_high` likewise.
ConfigField Number(const char* name, float ServerConfig::*member, double least, bool open_low,
                   double most, bool open_high, const char* help) {
  const std::string range =
      absl::StrCat(open_low ? "(" : "[", least, ", ", most, open_high ? ")" : "]");
  return {name, "X", help,
          [=](const std::string& text, ServerConfig& config) -> absl::Status {
            LORC_ASSIGN_OR_RETURN(const double value, ParseNumber(text));
            if (value < least || value > most || (open_low && value == least) ||
                (open_high && value == most)) {
              return OutOfRange(text, range);
            }
            config.*member = static_cast<float>(value);
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) { return absl::StrCat(config.*member); }};
}

ConfigField Switch(const char* name, bool ServerConfig::*member, const char* help) {
  return {name, "", help,
          [member](const std::string& text, ServerConfig& config) -> absl::Status {
            LORC_ASSIGN_OR_RETURN(config.*member, ParseBool(text));
            return absl::OkStatus();
          },
          [member](const ServerConfig& config) {
            return std::string(config.*member ? "true" : "false");
          }};
}

std::vector<ConfigField> MakeFields() {
  using C = ServerConfig;
  return {
      Text("model", "PATH", &C::model, "GGUF file or Hugging Face folder; required"),
      Text("plan", "PATH", &C::plan, "KV plan made by `lorc compress`; none: full cache"),
      Choice("backend", &C::backend, {"cpu", "cuda"},
             "what runs the model; cuda: an NVIDIA GPU, where built in"),
      Choice("weights", &C::weights, {"auto", "f32", "bf16", "int8"},
             "type of the weights in memory; auto: what runs fastest"),
      Integer("threads", &C::threads, 0, 1024,
              "that compute (with cuda: load and draw); 0: one per available core"),
      Text("grpc_address", "HOST:PORT", &C::grpc_address, "gRPC; port 0 picks a free one"),
      Text("http_address", "HOST:PORT", &C::http_address,
           "/metrics, /healthz, /readyz; port 0 picks a free one"),
      Bytes("kv_budget_bytes", &C::kv_budget_bytes, 0, kMost,
            "KV cache, with suffix KiB, MiB, GiB or TiB; 0: what is left of the available memory, "
            "at most what max_running requests can use, on the CPU at most 4GiB or one request"),
      Integer("max_sequence_tokens", &C::max_sequence_tokens, 0, kMost32,
              "prompt and generated tokens of a request; 0: the model's context length, or what "
              "fits the budget"),
      Integer("max_batch_tokens", &C::max_batch_tokens, 1, 65536, "tokens of one step"),
      Integer("max_running", &C::max_running, 1, 4096, "requests that hold cache"),
      Integer("max_waiting", &C::max_waiting, 1, 1'000'000, "requests that wait"),
      Integer("max_waiting_prompt_tokens", &C::max_waiting_prompt_tokens, 1, kMost,
              "prompt tokens of all that wait"),
      Integer("block_tokens", &C::block_tokens, 16, 64, "tokens of a cache block: 16, 32 or 64"),
      Integer("look_ahead", &C::look_ahead, 0, 1'000'000,
              "requests tried past one that does not fit"),
      Duration("overtake_age", &C::overtake_age_ns, 0,
               "from this age a waiting request is not overtaken"),
      Integer("default_max_tokens", &C::default_max_tokens, 1, kMost32,
              "where a request has no max_tokens"),
      Number("default_temperature", &C::default_temperature, 0, false, 2, false, "0: greedy"),
      Integer("default_top_k", &C::default_top_k, 0, kMost32, "0: off"),
      Number("default_top_p", &C::default_top_p, 0, true, 1, false, "1: off"),
      Number("default_min_p", &C::default_min_p, 0, false, 1, true, "0: off"),
      Integer("stream_buffer_tokens", &C::stream_buffer_tokens, 1, 65536,
              "unread tokens of a request before it pauses"),
      Duration("slow_reader_timeout", &C::slow_reader_timeout_ns, 1'000'000,
               "a request paused for so long is ended"),
      Bytes("max_receive_bytes", &C::max_receive_bytes, 1 << 10, 1 << 30,
            "largest request message"),
      Bytes("max_send_bytes", &C::max_send_bytes, 1 << 10, 1 << 30, "largest response message"),
      Integer("max_streams_per_connection", &C::max_streams_per_connection, 1, 1'000'000,
              "calls at once on one connection"),
      Duration("keepalive_time", &C::keepalive_time_ns, kSecond, "pings idle connections"),
      Duration("keepalive_timeout", &C::keepalive_timeout_ns, kSecond,
               "closes a connection that answers no ping"),
      Text("tls_cert", "PATH", &C::tls_cert, "PEM certificate chain; switches TLS on"),
      Text("tls_key", "PATH", &C::tls_key, "PEM private key"),
      Text("tls_client_ca", "PATH", &C::tls_client_ca,
           "PEM authority of clients; switches mutual TLS on"),
      Text("bearer_token_file", "PATH", &C::bearer_token_file,
           "accepted tokens, one a line; none: all calls are accepted"),
      Duration("drain_timeout", &C::drain_timeout_ns, 0, "for requests in flight after SIGTERM"),
      Duration("stall_limit", &C::stall_limit_ns, 1'000'000,
               "a busy engine without a step for so long is not ready"),
      Choice("log_level", &C::log_level, {"debug", "info", "warning", "error"},
             "to standard error"),
      Choice("log_format", &C::log_format, {"text", "json"}, "json: one object a line"),
      Switch("dry_run", &C::dry_run, "print what would be served, then exit"),
      Integer("dry_run_tokens", &C::dry_run_tokens, 2, kMost32,
              "with dry_run: count concurrent requests of this length"),
      Switch("json", &C::json, "with dry_run: one JSON object"),
  };
}

int EditDistance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string ConfigField::flag() const {
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  return "--" + dashed;
}

const std::vector<ConfigField>& ConfigFields() {
  static const auto* const fields = new std::vector<ConfigField>(MakeFields());
  return *fields;
}

const ConfigField* FindConfigField(const std::string& name) {
  for (const ConfigField& field : ConfigFields()) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

std::string NearestConfigField(const std::string& name) {
  const auto& fields = ConfigFields();
  return std::min_element(fields.begin(), fields.end(),
                          [&](const ConfigField& a, const ConfigField& b) {
                            return EditDistance(a.name, name) < EditDistance(b.name, name);
                          })
      ->name;
}

}  // namespace lorc
