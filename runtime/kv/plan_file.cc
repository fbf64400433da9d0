#include "runtime/kv/plan_file.h"

#include <cstring>
#include <span>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "runtime/weights/json_fields.h"
#include "runtime/weights/json_header.h"
#include "runtime/weights/printable.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/safetensors_writer.h"
#include "runtime/weights/status_macros.h"

namespace lorc {
namespace {

using nlohmann::json;

constexpr int32_t kVersionWithoutHeadOrder = 1;  // what a plan without one says
constexpr JsonHeaderKind kHeader = {.key = "lorc_kv_plan",
                                    .format = "lorc-kv-plan",
                                    .oldest_version = kVersionWithoutHeadOrder,
                                    .newest_version = 2,
                                    .file = "a KV plan",
                                    .content = "the plan format",
                                    .advice = "; plans are made by `lorc compress`"};
constexpr int64_t kMostLayers = 4096;
constexpr int32_t kMostWidth = 1 << 20;

std::string TensorName(size_t layer, const char* tensor, const char* part) {
  return absl::StrCat("layers.", layer, ".", tensor, ".", part);
}

// ---- Writing

json ToJson(const TensorPlan& tensor) {
  json segments = json::array();
  for (const CacheSegment& segment : tensor.segments) {
    segments.push_back({{"type", Name(segment.type)}, {"width", segment.width}});
  }
  return {{"layout", Name(tensor.layout)},
          {"groups", tensor.groups},
          {"rank", tensor.rank},
          {"segments", std::move(segments)},
          {"bytes_per_token", tensor.BytesPerToken()},
          {"facts",
           {{"condition_number", tensor.facts.condition_number},
            {"effective_rank", tensor.facts.effective_rank},
            {"kept_energy", tensor.facts.kept_energy},
            {"singular_values", tensor.facts.singular_values}}}};
}

json ToJson(const KvPlan& plan) {
  json layers = json::array();
  int32_t version = kVersionWithoutHeadOrder;
  for (const LayerPlan& layer : plan.layers) {
    json of_layer = {{"key", ToJson(layer.key)}, {"value", ToJson(layer.value)}};
    if (!layer.head_order.empty()) {
      of_layer["head_order"] = layer.head_order;
      version = kHeader.newest_version;
    }
    layers.push_back(std::move(of_layer));
  }
  return {{"format", kHeader.format},
          {"version", version},
          {"name", plan.name},
          {"method", plan.method},
          {"options", plan.options},
          {"base", {{"fingerprint", plan.base_fingerprint}, {"name", plan.base_name}}},
          {"exact_prefix", plan.exact_prefix},
          {"exact_window", plan.exact_window},
          {"anchor", plan.anchor},
          {"bytes_per_token", plan.BytesPerToken()},
          {"measured",
           {{"num_tokens", plan.measured.num_tokens},
            {"perplexity_full", plan.measured.perplexity_full},
            {"perplexity", plan.measured.perplexity},
            {"recall_full", plan.measured.recall_full},
            {"recall", plan.measured.recall},
            {"predicted_loss", plan.measured.predicted_loss}}},
          {"layers", std::move(layers)}};
}

// Names may come from files: what is not UTF-8 in them is replaced.
std::string Dump(const KvPlan& plan, int indent) {
  return ToJson(plan).dump(indent, ' ', false, json::error_handler_t::replace);
}

// ---- Reading

absl::StatusOr<json> Member(const JsonFields& fields, const char* key, json::value_t type) {
  const json* member = fields.Find(key);
  if (member == nullptr || member->type() != type) {
    return fields.Invalid(absl::StrCat(key, " is missing or of the wrong kind"));
  }
  return *member;
}

absl::StatusOr<KvLayoutKind> ReadLayout(const JsonFields& fields) {
  LORC_ASSIGN_OR_RETURN(const std::string name, fields.String("layout", ""));
  if (name.empty()) return fields.Invalid("layout is missing; expected full, direct or rebuilt");
  for (const KvLayoutKind kind :
       {KvLayoutKind::kFull, KvLayoutKind::kDirect, KvLayoutKind::kRebuilt}) {
    if (name == Name(kind)) return kind;
  }
  return fields.Unimplemented(
      absl::StrCat("layout ", Printable(name), " is not known; expected full, direct or rebuilt"));
}

absl::StatusOr<CacheSegment> ReadSegment(const json& value, const std::string& source) {
  if (!value.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": a segment is not an object"));
  }
  const JsonFields fields(value, absl::StrCat(source, " segment"));
  LORC_ASSIGN_OR_RETURN(const std::string name, fields.String("type", ""));
  LORC_ASSIGN_OR_RETURN(const int32_t width, fields.Integer("width", 1, kMaxSegmentWidth));
  if (const auto type = SegmentTypeFromName(name)) return CacheSegment{*type, width};
  return fields.Unimplemented(
      absl::StrCat("type ", Printable(name), " is not supported; expected ", kSegmentTypeNames));
}

absl::StatusOr<TensorFacts> ReadFacts(const JsonFields& fields, const std::string& source) {
  TensorFacts facts;
  const json* member = fields.Find("facts");
  if (member == nullptr) return facts;
  if (!member->is_object()) return fields.Invalid("facts is not an object");
  const JsonFields values(*member, absl::StrCat(source, " facts"));
  constexpr double kMost = 1e300;
  LORC_ASSIGN_OR_RETURN(facts.condition_number, values.Number("condition_number", 0, kMost, 0));
  LORC_ASSIGN_OR_RETURN(facts.effective_rank, values.Number("effective_rank", 0, 1, 0));
  LORC_ASSIGN_OR_RETURN(facts.kept_energy, values.Number("kept_energy", 0, 1, 0));
  const json* singular = values.Find("singular_values");
  if (singular == nullptr) return facts;
  if (!singular->is_array() || singular->size() > 64) {
    return values.Invalid("singular_values is not a list of at most 64 numbers");
  }
  for (const json& value : *singular) {
    if (!value.is_number())
      return values.Invalid("singular_values has something else than numbers");
    facts.singular_values.push_back(value.get<double>());
  }
  return facts;
}

// Floats of the basis tensor `name`, empty where it is not in the file.
absl::StatusOr<std::vector<float>> ReadBasis(const Safetensors& file, const std::string& name,
                                             const std::vector<int64_t>& shape) {
  const SafetensorsTensor* tensor = file.Find(name);
  if (tensor == nullptr) return std::vector<float>();
  if (tensor->type != SafetensorsType::kF32 || tensor->shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": tensor ", name,
                                                   ": expected F32 with ", shape[0], " x ",
                                                   shape[1], " x ", shape[2], " numbers"));
  }
  std::vector<float> values(tensor->data.size() / sizeof(float));
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

absl::StatusOr<TensorPlan> ReadTensor(const json& layer, size_t index, const char* name,
                                      const Safetensors& file, int64_t* num_tensors) {
  const std::string source = absl::StrCat(file.name(), ": layer ", index, " ", name);
  if (!layer.is_object() || !layer.contains(name) || !layer[name].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": missing"));
  }
  const JsonFields fields(layer[name], source);
  TensorPlan tensor;
  LORC_ASSIGN_OR_RETURN(tensor.layout, ReadLayout(fields));
  LORC_ASSIGN_OR_RETURN(tensor.groups, fields.Integer("groups", 1, kMostWidth));
  LORC_ASSIGN_OR_RETURN(tensor.rank, fields.Integer("rank", 1, kMostWidth));
  LORC_ASSIGN_OR_RETURN(const json segments, Member(fields, "segments", json::value_t::array));
  for (const json& value : segments) {
    LORC_ASSIGN_OR_RETURN(const CacheSegment segment, ReadSegment(value, source));
    tensor.segments.push_back(segment);
  }
  LORC_ASSIGN_OR_RETURN(tensor.facts, ReadFacts(fields, source));
  const SafetensorsTensor* encoder = file.Find(TensorName(index, name, "encoder"));
  if (encoder == nullptr) return tensor;
  if (encoder->shape.size() != 3) return fields.Invalid("its encoder has not three extents");
  const int64_t width = encoder->shape[2];
  LORC_ASSIGN_OR_RETURN(tensor.encoder,
                        ReadBasis(file, encoder->name, {tensor.groups, tensor.rank, width}));
  LORC_ASSIGN_OR_RETURN(tensor.decoder, ReadBasis(file, TensorName(index, name, "decoder"),
                                                  {tensor.groups, width, tensor.rank}));
  *num_tensors += tensor.decoder.empty() ? 1 : 2;
  return tensor;
}

absl::StatusOr<std::vector<int32_t>> ReadHeadOrder(const json& layer, size_t index,
                                                   const std::string& source) {
  std::vector<int32_t> order;
  const auto member = layer.find("head_order");
  if (member == layer.end() || member->is_null()) return order;
  bool integers = member->is_array() && member->size() <= kMostWidth;
  for (size_t i = 0; integers && i < member->size(); ++i) {
    const json& head = (*member)[i];
    integers = head.is_number_unsigned() && head.get<uint64_t>() < kMostWidth;
    if (integers) order.push_back(head.get<int32_t>());
  }
  if (integers) return order;
  return absl::InvalidArgumentError(
      absl::StrCat(source, ": layer ", index, ": head_order is not a list of KV heads"));
}

absl::Status ReadMeasured(const JsonFields& fields, const std::string& source,
                          PlanMeasurement* measured) {
  const json* member = fields.Find("measured");
  if (member == nullptr) return absl::OkStatus();
  if (!member->is_object()) return fields.Invalid("measured is not an object");
  const JsonFields values(*member, absl::StrCat(source, ": measured"));
  constexpr double kMost = 1e300;
  LORC_ASSIGN_OR_RETURN(measured->num_tokens, values.Integer("num_tokens", 0, INT32_MAX, 0));
  LORC_ASSIGN_OR_RETURN(measured->perplexity_full, values.Number("perplexity_full", 0, kMost, 0));
  LORC_ASSIGN_OR_RETURN(measured->perplexity, values.Number("perplexity", 0, kMost, 0));
  LORC_ASSIGN_OR_RETURN(measured->recall_full, values.Number("recall_full", 0, kMost, 0));
  LORC_ASSIGN_OR_RETURN(measured->recall, values.Number("recall", 0, kMost, 0));
  LORC_ASSIGN_OR_RETURN(measured->predicted_loss, values.Number("predicted_loss", 0, kMost, 0));
  return absl::OkStatus();
}

absl::Status ReadHeader(const json& header, const std::string& source, KvPlan* plan) {
  const JsonFields fields(header, source);
  LORC_ASSIGN_OR_RETURN(plan->name, fields.String("name", ""));
  LORC_ASSIGN_OR_RETURN(plan->method, fields.String("method", ""));
  LORC_ASSIGN_OR_RETURN(plan->exact_prefix, fields.Integer("exact_prefix", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(plan->exact_window, fields.Integer("exact_window", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(plan->anchor, fields.Integer("anchor", 0, kMostPlanTokens));
  LORC_ASSIGN_OR_RETURN(const json base, Member(fields, "base", json::value_t::object));
  const JsonFields base_fields(base, absl::StrCat(source, ", base"));
  LORC_ASSIGN_OR_RETURN(plan->base_fingerprint, base_fields.String("fingerprint", ""));
  LORC_ASSIGN_OR_RETURN(plan->base_name, base_fields.String("name", ""));
  LORC_ASSIGN_OR_RETURN(const json options, Member(fields, "options", json::value_t::object));
  for (const auto& [key, value] : options.items()) {
    if (!value.is_string()) return fields.Invalid("options has a value that is not text");
    plan->options[key] = value.get<std::string>();
  }
  return ReadMeasured(fields, source, &plan->measured);
}

}  // namespace

absl::StatusOr<KvPlan> ReadPlan(const std::string& path) {
  LORC_ASSIGN_OR_RETURN(const Safetensors file, Safetensors::Open(path));
  return ParsePlan(file);
}

absl::StatusOr<KvPlan> ParsePlan(const Safetensors& file) {
  json header;
  LORC_RETURN_IF_ERROR(ReadJsonHeader(file, kHeader, &header));
  KvPlan plan;
  LORC_RETURN_IF_ERROR(ReadHeader(header, file.name(), &plan));
  const json* layers = JsonFields(header, file.name()).Find("layers");
  if (layers == nullptr || !layers->is_array() || layers->empty() ||
      std::ssize(*layers) > kMostLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": layers is not a list of 1 to ", kMostLayers, " layers"));
  }
  int64_t num_tensors = 0;
  for (size_t i = 0; i < layers->size(); ++i) {
    LayerPlan layer;
    LORC_ASSIGN_OR_RETURN(layer.key, ReadTensor((*layers)[i], i, "key", file, &num_tensors));
    LORC_ASSIGN_OR_RETURN(layer.value, ReadTensor((*layers)[i], i, "value", file, &num_tensors));
    LORC_ASSIGN_OR_RETURN(layer.head_order, ReadHeadOrder((*layers)[i], i, file.name()));
    plan.layers.push_back(std::move(layer));
  }
  if (num_tensors != std::ssize(file.tensors())) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", file.tensors().size(),
                                                   " tensors, of which the header explains ",
                                                   num_tensors));
  }
  return plan;
}

absl::Status WritePlan(const KvPlan& plan, const std::string& path) {
  std::vector<SafetensorsTensor> tensors;
  const auto add = [&tensors](const std::string& name, const std::vector<float>& values,
                              std::vector<int64_t> shape) {
    if (values.empty()) return;
    tensors.push_back(
        {name, SafetensorsType::kF32, std::move(shape), std::as_bytes(std::span(values))});
  };
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    for (const bool is_key : {true, false}) {
      const TensorPlan& tensor = is_key ? plan.layers[i].key : plan.layers[i].value;
      if (tensor.encoder.empty()) continue;
      const char* name = is_key ? "key" : "value";
      const int64_t width = std::ssize(tensor.encoder) / tensor.groups / tensor.rank;
      add(TensorName(i, name, "encoder"), tensor.encoder, {tensor.groups, tensor.rank, width});
      add(TensorName(i, name, "decoder"), tensor.decoder, {tensor.groups, width, tensor.rank});
    }
  }
  return WriteSafetensors(path, tensors, {{kHeader.key, Dump(plan, -1)}});
}

std::string PlanHeaderJson(const KvPlan& plan) { return Dump(plan, 2); }

}  // namespace lorc
