// A plan, the offline evaluation and a server agree: the log-probabilities that a client gets are
// those that ScoreSequence gives for prompt and answer, bit for bit. The same executor computes the
// same forms (prompt positions, generated positions) of the same text, and no result depends on
// chunks or batches (ARCHITECTURE.md, "Determinism"), so there is nothing to round differently.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "runtime/compress/compress.h"
#include "runtime/compress/offline_model.h"
#include "runtime/compress/score_sequence.h"
#include "runtime/kv/plan_file.h"
#include "tests/compress/held_out_text.h"
#include "tests/service/test_server.h"
#include "tests/support/files.h"

namespace lorc::test {
namespace {

constexpr char kPrompt[] =
    "The ferry to the outer islands leaves twice a day in winter, and the clerk behind the glass "
    "knows everyone who takes it. This morning, when the first boat came in, he";
constexpr uint32_t kGenerated = 120;

class EvalAgreementTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("LORC_TEST_MODEL");
    ASSERT_NE(model, nullptr) << "LORC_TEST_MODEL is not set; run the tests through ctest";
    model_ = model;
    auto opened = Checkpoint::Open(model_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint_ = *std::move(opened);
    tokenizer_ = *Tokenizer::Create(*checkpoint_->ReadVocabulary());
    backend_ = *MakeCpuBackend(0);
  }

  // Mixed bits, from a few windows; little is exact, so that most of what attention reads has been
  // through the plan.
  KvPlan MakePlan(KvLayoutKind keys) const {
    CompressRequest request;
    request.options.keys = keys;
    request.options.bytes_per_token = 3600;
    request.options.exact_window = 16;
    request.text = std::string(kHeldOutText);
    request.window = 128;
    request.calibration_windows = 4;
    request.measure_windows = 1;
    auto made = Compress(*backend_, *checkpoint_, *tokenizer_, request, nullptr);
    EXPECT_TRUE(made.ok()) << made.status();
    return std::move(made->plan);
  }

  // The answer of a server under the plan (a file; empty: uncompressed) to kPrompt, while another
  // request shares its steps.
  std::vector<v1::GeneratedToken> Generate(const std::string& plan) const {
    TestServer server([&](ServerConfig& config) {
      config.model = model_;
      config.plan = plan;
      config.weights = "bf16";
      config.threads = 0;
      config.kv_budget_bytes = 64 << 20;
      config.max_sequence_tokens = 512;
      config.max_batch_tokens = 32;  // the prompt takes several steps
    });
    grpc::ClientContext context;
    const auto other = server.stub().Generate(&context, TextRequest("Once upon a time", 200));
    v1::GenerateRequest request = TextRequest(kPrompt, kGenerated);
    request.mutable_sampling()->set_temperature(0);
    request.set_logprobs(0);
    const Reply reply = server.Stream(request);
    EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
    context.TryCancel();
    return reply.tokens;
  }

  void ExpectAgreement(const KvPlan& plan, const std::string& path) const {
    const std::vector<v1::GeneratedToken> answer = Generate(path);
    ASSERT_EQ(answer.size(), kGenerated);
    std::vector<TokenId> tokens = tokenizer_->Encode(kPrompt, /*parse_special=*/false);
    const auto num_prompt_tokens = static_cast<int32_t>(tokens.size());
    for (const v1::GeneratedToken& token : answer) {
      tokens.push_back(static_cast<TokenId>(token.id()));
    }
    OfflineOptions offline;
    offline.weight_type = DType::kBf16;
    offline.max_sequence_tokens = 512;
    const auto executor = MakeOfflineModel(*backend_, *checkpoint_, plan, offline, nullptr);
    ASSERT_TRUE(executor.ok()) << executor.status();
    const auto scores = ScoreSequence(**executor, tokens, num_prompt_tokens);
    ASSERT_TRUE(scores.ok()) << scores.status();
    for (uint32_t i = 0; i < kGenerated; ++i) {
      EXPECT_EQ((*scores)[num_prompt_tokens - 1 + i], answer[i].chosen().logprob())
          << "token " << i;
    }
    // Scored as a prompt the same text differs, by rounding alone, unless there is one form only.
    const auto as_prompt = ScoreSequence(**executor, tokens);
    ASSERT_TRUE(as_prompt.ok()) << as_prompt.status();
    const bool one_form = plan.layers[0].key.layout == KvLayoutKind::kRebuilt;
    EXPECT_EQ(*as_prompt == *scores, one_form);
  }

  std::string model_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Backend> backend_;
  TempFolder folder_;
};

TEST_F(EvalAgreementTest, Uncompressed) {
  ExpectAgreement(KvPlan::Full(checkpoint_->config(), SegmentType::kBf16), "");
}

TEST_F(EvalAgreementTest, DirectMixedBits) {
  const KvPlan plan = MakePlan(KvLayoutKind::kDirect);
  ASSERT_TRUE(WritePlan(plan, folder_.File("plan")).ok());
  ExpectAgreement(plan, folder_.File("plan"));
}

TEST_F(EvalAgreementTest, RebuiltMixedBits) {
  const KvPlan plan = MakePlan(KvLayoutKind::kRebuilt);
  ASSERT_TRUE(WritePlan(plan, folder_.File("plan")).ok());
  ExpectAgreement(plan, folder_.File("plan"));
}

}  // namespace
}  // namespace lorc::test
