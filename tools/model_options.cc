#include "tools/model_options.h"

#include "kernels/make_backend.h"
#include "runtime/weights/status_macros.h"

namespace lorc {

void ModelOptions::AddTo(CLI::App& command) {
  command.add_option("MODEL", model, "GGUF file or Hugging Face folder")->required();
  command.add_option("--backend", backend, "What runs the model")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--weights", weights, "Type that the weights run in")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}));
  command.add_option("--threads", threads, "Threads; 0: one per core")->check(CLI::Range(0, 1024));
}

absl::StatusOr<OpenedModel> OpenModel(const ModelOptions& options) {
  OpenedModel opened;
  LORC_ASSIGN_OR_RETURN(opened.backend, MakeBackend(options.backend, options.threads));
  opened.weight_type =
      DTypeFromName(options.weights).value_or(opened.backend->default_weight_type());
  LORC_RETURN_IF_ERROR(opened.backend->CheckWeightType(opened.weight_type));
  LORC_ASSIGN_OR_RETURN(opened.checkpoint, Checkpoint::Open(options.model));
  LORC_ASSIGN_OR_RETURN(Vocabulary vocabulary, opened.checkpoint->ReadVocabulary());
  LORC_ASSIGN_OR_RETURN(opened.tokenizer, Tokenizer::Create(std::move(vocabulary)));
  return opened;
}

}  // namespace lorc
