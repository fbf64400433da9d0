#include "service/server_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>
#include <vector>
#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/status_macros.h"
#include "service/config_fields.h"
#include "service/host_port.h"
#include "service/version.h"

namespace lorc {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;

std::string Message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

absl::Status SetField(const ConfigField& field, const std::string& name, const std::string& text,
                      ServerConfig* config) {
  const absl::Status status = field.set(text, *config);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", Message(status)));
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxConfigBytes + 1, '\0');
  if (!file) return absl::NotFoundError(absl::StrCat("--config: can't open ", path));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::NotFoundError(absl::StrCat("--config: can't read ", path));
  text.resize(file.gcount());
  if (std::ssize(text) > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: ", path, " is larger than ", kMaxConfigBytes, " bytes"));
  }
  return text;
}

absl::Status ApplyEntry(const YAML::Node& key, const YAML::Node& value, const std::string& source,
                        std::set<std::string>& seen, ServerConfig* config) {
  const std::string where = absl::StrCat(source, ":", key.Mark().line + 1);
  if (!key.IsScalar()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": a key must be a plain word"));
  }
  const std::string& name = key.Scalar();
  const ConfigField* field = FindConfigField(name);
  if (field == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": unknown key \"", name,
                                                   "\"; the nearest known one is \"",
                                                   NearestConfigField(name), "\""));
  }
  if (!seen.insert(name).second) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, " is set twice"));
  }
  if (!value.IsScalar()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", name, ": expected one value, got ",
                                                   value.IsNull()  ? "none"
                                                   : value.IsMap() ? "a mapping"
                                                                   : "a list"));
  }
  return SetField(*field, absl::StrCat(where, ": ", name), value.Scalar(), config);
}

struct Flag {
  const ConfigField* field = nullptr;
  CLI::Option* option = nullptr;
  std::string text;
};

// Arguments that CLI11 does not know are named together with the nearest flag.
absl::Status CheckExtras(const std::vector<std::string>& extras) {
  if (extras.empty()) return absl::OkStatus();
  std::string name = extras.front();
  if (name.rfind("--", 0) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", name, "\""));
  }
  name = name.substr(2, name.find('=') - 2);
  std::string key = name;
  std::replace(key.begin(), key.end(), '-', '_');
  const ConfigField* nearest = FindConfigField(NearestConfigField(key));
  return absl::InvalidArgumentError(
      absl::StrCat("unknown flag --", name, "; the nearest known one is ", nearest->flag()));
}

absl::StatusOr<CommandLine> Parse(int argc, const char* const* argv) {
  CommandLine line;
  const ServerConfig defaults;
  CLI::App app("Serves a LLaMA model over gRPC with a KV cache of low rank.", "lorc-server");
  app.allow_extras();
  std::string config_path;
  bool version = false;
  app.add_option("--config", config_path, "YAML file with the fields below; flags win")
      ->type_name("PATH");
  app.add_flag("--version", version, "print the version");
  std::vector<Flag> flags(ConfigFields().size());
  for (size_t i = 0; i < flags.size(); ++i) {
    const ConfigField& field = ConfigFields()[i];
    flags[i].field = &field;
    if (field.type.empty()) {
      flags[i].option = app.add_flag(field.flag(), flags[i].text, field.help);
    } else {
      const std::string value = field.get(defaults);
      flags[i].option =
          app.add_option(field.flag(), flags[i].text,
                         value.empty() ? field.help : absl::StrCat(field.help, " [", value, "]"));
      flags[i].option->type_name(field.type);
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.message = app.help();
    return line;
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  LORC_RETURN_IF_ERROR(CheckExtras(app.remaining()));
  if (version) {
    line.message = absl::StrCat("lorc-server ", kServerVersion, "\n");
    return line;
  }
  if (!config_path.empty()) {
    LORC_ASSIGN_OR_RETURN(const std::string yaml, ReadConfigFile(config_path));
    LORC_RETURN_IF_ERROR(ApplyYaml(yaml, config_path, &line.config));
  }
  for (const Flag& flag : flags) {
    if (flag.option->count() == 0) continue;
    LORC_RETURN_IF_ERROR(SetField(*flag.field, flag.field->flag(), flag.text, &line.config));
  }
  LORC_RETURN_IF_ERROR(CheckServerConfig(line.config));
  return line;
}

}  // namespace

absl::Status ApplyYaml(const std::string& yaml, const std::string& source, ServerConfig* config) {
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (root.IsNull()) return absl::OkStatus();
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": expected `key: value` lines"));
    }
    std::set<std::string> seen;
    for (const auto& entry : root) {
      LORC_RETURN_IF_ERROR(ApplyEntry(entry.first, entry.second, source, seen, config));
    }
    return absl::OkStatus();
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  }
}

absl::Status CheckServerConfig(const ServerConfig& config) {
  if (config.model.empty()) {
    return absl::InvalidArgumentError("--model is required: a GGUF file or Hugging Face folder");
  }
  for (const auto& [name, address] : {std::pair("--grpc-address", config.grpc_address),
                                      std::pair("--http-address", config.http_address)}) {
    const auto parsed = ParseHostPort(address);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", Message(parsed.status())));
    }
  }
  if (config.block_tokens != 16 && config.block_tokens != 32 && config.block_tokens != 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("--block-tokens: is ", config.block_tokens, ", expected 16, 32 or 64"));
  }
  if (config.max_sequence_tokens == 1) {
    return absl::InvalidArgumentError("--max-sequence-tokens: is 1, expected 0 or at least 2");
  }
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError(
        "--tls-cert and --tls-key go together: set both or none of them");
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  return absl::OkStatus();
}

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  try {
    return Parse(argc, argv);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace lorc
