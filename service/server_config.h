// Settings of lorc-server: meaning, unit, default, requirement.
//
// Every field is a flag (`--max-running 8`) and a key of the YAML file (`max_running: 8`); the flag
// wins. Byte counts take suffixes (512MiB, 1.5GiB), durations too (500ms, 30s, 2m; a bare number is
// seconds). docs/server.yaml is an example with all of them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lorc {

struct ServerConfig {
  // --- Model -------------------------------------------------------------------------------------
  std::string model;             // GGUF file or Hugging Face folder; required
  std::string plan;              // KV plan file; empty: the cache is not compressed
  std::string backend = "cpu";   // what runs the model: cpu or cuda
  std::string weights = "auto";  // f32, bf16, int8 or auto: what runs fastest on the backend
  int32_t threads = 0;           // that compute, 0..1024; 0: one per available core

  // --- Addresses: HOST:PORT, [HOST]:PORT for IPv6; port 0 picks a free one -----------------------
  std::string grpc_address = "127.0.0.1:50051";
  std::string http_address = "127.0.0.1:8080";  // metrics and probes, never encrypted

  // --- Memory and scheduling ---------------------------------------------------------------------
  // Bytes of the KV cache, all of them taken at start-up. 0: what is left of the available memory
  // after weights, activations and a margin, but no more than max_running requests of
  // max_sequence_tokens can use and no more than the larger of 4 GiB and one such request
  // (memory_estimate.h).
  int64_t kv_budget_bytes = 0;
  // Prompt and generated tokens of one request, >= 2, at most the model's context length. 0: the
  // context length, or what fits the budget where that is less, but not below 512.
  int32_t max_sequence_tokens = 0;
  int32_t max_batch_tokens = 512;               // tokens that one step computes, 1..65536
  int32_t max_running = 64;                     // requests that hold cache, 1..4096
  int32_t max_waiting = 256;                    // requests that wait, 1..1000000
  int64_t max_waiting_prompt_tokens = 1 << 20;  // sum over the requests that wait, >= 1
  int32_t block_tokens = 16;                    // tokens of a cache block: 16, 32 or 64
  // Requests tried past one that does not fit, >= 0, and the age from which none overtakes it.
  int32_t look_ahead = 16;
  int64_t overtake_age_ns = 5'000'000'000;

  // --- Defaults of requests ----------------------------------------------------------------------
  int32_t default_max_tokens = 256;  // >= 1; cut to what a prompt leaves of max_sequence_tokens
  float default_temperature = 0;     // 0..2; 0 = greedy
  int32_t default_top_k = 0;         // >= 0; 0 = off
  float default_top_p = 1;           // (0, 1]; 1 = off
  float default_min_p = 0;           // [0, 1); 0 = off

  // --- Connections and streams -------------------------------------------------------------------
  int32_t stream_buffer_tokens = 256;  // unread tokens of a request before it pauses, 1..65536
  // A request whose reader has taken nothing for so long while its buffer was full ends with
  // ABORTED; its call is cut after as long again. > 0.
  int64_t slow_reader_timeout_ns = 30'000'000'000;
  int64_t max_receive_bytes = 4 << 20;            // largest request message, 1KiB..1GiB
  int64_t max_send_bytes = 64 << 20;              // largest response message, 1KiB..1GiB
  int32_t max_streams_per_connection = 1024;      // calls at once, 1..1000000
  int64_t keepalive_time_ns = 60'000'000'000;     // pings idle connections after this, >= 1s
  int64_t keepalive_timeout_ns = 20'000'000'000;  // and closes them without an answer, >= 1s

  // --- Security ----------------------------------------------------------------------------------
  std::string tls_cert;       // PEM chain, with tls_key; empty: no TLS
  std::string tls_key;        // PEM private key
  std::string tls_client_ca;  // PEM; clients must then have a certificate of this authority (mTLS)
  // One token a line; calls of GenerationService must have one (`authorization: Bearer TOKEN`).
  // Health and reflection need none. Empty: no tokens.
  std::string bearer_token_file;

  // --- Life --------------------------------------------------------------------------------------
  int64_t drain_timeout_ns = 30'000'000'000;  // for requests in flight after SIGTERM, >= 0
  // A busy engine that ends no step for so long is not ready; after ten times as long it is not
  // alive (/healthz). > 0.
  int64_t stall_limit_ns = 60'000'000'000;
  std::string log_level = "info";   // debug, info, warning or error
  std::string log_format = "text";  // text or json, one object a line

  // --- Dry run: print what would be served, then exit --------------------------------------------
  bool dry_run = false;
  int32_t dry_run_tokens = 2048;  // count concurrent requests of this length, >= 2
  bool json = false;              // the table as one JSON object
};

struct CommandLine {
  ServerConfig config;
  std::string message;  // not empty: print it and exit with success (--help, --version)
};

// Reads flags and, with --config, the YAML file. INVALID_ARGUMENT names the flag or key, the value
// and what is possible; unknown ones also the nearest known one. NOT_FOUND: no such file.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// Sets what the YAML text says. `source` names it in errors.
absl::Status ApplyYaml(const std::string& yaml, const std::string& source, ServerConfig* config);

// What single fields can't say: what is required and what goes together.
absl::Status CheckServerConfig(const ServerConfig& config);

}  // namespace lorc
