// The exported archive is read back by LibTorch and, where Python has torch, by Python.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "fedwatt/model/torch/architecture.h"
#include "model/torch/pch.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TakesTokens;
using ::fedwatt::testing::TypicalSpec;
using ::testing::HasSubstr;

class TorchScriptTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TorchScriptTest, ArchiveScoresAsTheTrainerDoes) {
  const ArchitectureSpec spec = TypicalSpec(GetParam());
  const std::string path = ::testing::TempDir() + "/fedwatt_" + spec.name + ".pt";
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(11));
  ASSERT_THAT(WriteTorchScript(spec, model, path), IsOk());

  torch::jit::Module archive = torch::jit::load(path);
  int64_t count = 0;
  for (const auto& parameter : archive.named_parameters()) {
    for (size_t i = 0; i < trainer->layout().entries().size(); ++i) {
      const LayoutEntry& entry = trainer->layout().entries()[i];
      if (entry.name != parameter.name) continue;
      ++count;
      EXPECT_TRUE(at::equal(parameter.value, at::from_blob(const_cast<float*>(model.data()) + trainer->layout().offset(i), entry.shape)));
    }
  }
  const std::vector<LayoutEntry>& entries = trainer->layout().entries();
  EXPECT_EQ(count, std::count_if(entries.begin(), entries.end(), [](const LayoutEntry& entry) { return entry.kind == EntryKind::kParameter; }));

  // One example at a time through the trainer gives -log p(label); the archive must give the same for each.
  const Dataset data = RandomDataset(spec, 6);
  std::vector<int64_t> shape = {1};
  shape.insert(shape.end(), spec.input_shape.begin(), spec.input_shape.end());
  std::vector<float> input(data.store().input_size());
  for (int32_t i = 0; i < data.size(); ++i) {
    data.CopyInput(i, absl::MakeSpan(input));
    at::Tensor x = at::from_blob(input.data(), shape, at::kFloat).clone();
    if (TakesTokens(spec)) x = x.to(at::kLong);
    const at::Tensor logits = archive.forward({x}).toTensor();
    ASSERT_EQ(logits.sizes(), (std::vector<int64_t>{1, spec.output_count}));
    ASSERT_OK_AND_ASSIGN(const Dataset one, data.Subset({i}));
    ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(model, one, "cross_entropy"));
    EXPECT_NEAR(-logits.log_softmax(1)[0][data.label(i)].item<double>(), score.mean_loss, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TorchScriptTest, ::testing::ValuesIn(ArchitectureNames()), [](const auto& info) { return info.param; });

TEST(TorchScriptFileTest, RefusesWrongLengthAndMissingFolder) {
  const ArchitectureSpec spec = TypicalSpec("logistic");
  EXPECT_THAT(WriteTorchScript(spec, std::vector<float>(3), ::testing::TempDir() + "/x.pt"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 values")));
  EXPECT_THAT(WriteTorchScript(spec, std::vector<float>(7850), "/nonexistent/x.pt"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST(TorchScriptFileTest, PythonLoadsAndCallsIt) {
  if (std::system("/usr/bin/python3 -c 'import torch' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-torch is not installed";
  const ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  const std::string path = ::testing::TempDir() + "/fedwatt_python.pt";
  std::vector<float> model(199210, 0.0f);
  for (int k = 0; k < 10; ++k) model[199200 + k] = static_cast<float>(k);  // fc3.bias: the logits of any input
  ASSERT_THAT(WriteTorchScript(spec, model, path), IsOk());
  const std::string script = "import torch; m = torch.jit.load('" + path +
                             "').eval(); y = m(torch.ones(3, 1, 28, 28)); assert y.shape == (3, 10) and not m.training; "
                             "assert (y == torch.arange(10.)).all(); assert m.state_dict()['fc1.weight'].shape == (200, 784)";
  EXPECT_EQ(std::system(("/usr/bin/python3 -c \"" + script + "\"").c_str()), 0);
}

}  // namespace
}  // namespace fedwatt
