// The delivered int8 archive: what it computes, what has none, what is refused.
#include "fedwatt/model/torch/quantization.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "fedwatt/model/torch/architecture.h"
#include "model/torch/pch.h"
#include "model/torch/quantized_network.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::testing::HasSubstr;

std::string Path(const std::string& name) { return ::testing::TempDir() + "/fedwatt_int8_" + name + ".pt"; }

at::Tensor Inputs(const Dataset& data) {
  std::vector<int64_t> shape = data.store().input_shape;
  shape.insert(shape.begin(), data.size());
  at::Tensor x = at::empty(shape);
  for (int64_t i = 0; i < data.size(); ++i) {
    const int64_t size = data.store().input_size();
    data.CopyInput(i, absl::MakeSpan(x.data_ptr<float>() + i * size, size));
  }
  return x;
}

TEST(AffineTest, MapsARangeOntoCodesWithZeroAmongThem) {
  const internal::Affine both = internal::AffineOf({-1, 3});
  EXPECT_DOUBLE_EQ(both.scale, 4.0 / 255);
  EXPECT_EQ(both.zero_point, 64);  // 63.75 rounded
  EXPECT_EQ(internal::AffineOf({0, 2}).zero_point, 0);
  EXPECT_EQ(internal::AffineOf({-2, 0}).zero_point, 255);
  // What lies apart from 0 is widened to it; what is 0 throughout has a scale to divide by.
  EXPECT_DOUBLE_EQ(internal::AffineOf({1, 2}).scale, 2.0 / 255);
  EXPECT_EQ(internal::AffineOf({0, 0}).scale, 1);
}

const std::set<std::string> kWithoutIntegers = {"char_lstm", "gru", "lif_snn", "linear_transformer", "local_transformer", "min_gru", "mobile_cnn", "performer", "softmax_transformer"};

class QuantizationTest : public ::testing::TestWithParam<std::string> {};

TEST_P(QuantizationTest, DeliversWhatComputesTheSameOrSaysWhyNot) {
  const ArchitectureSpec spec = TypicalSpec(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(11));
  const Dataset data = RandomDataset(spec, 40);
  const std::string path = Path(spec.name);
  std::filesystem::remove(path);
  ASSERT_OK_AND_ASSIGN(const Int8Delivery delivery, DeliverInt8(spec, model, data, /*score=*/true, "cross_entropy", path));
  if (kWithoutIntegers.contains(spec.name)) {
    EXPECT_THAT(delivery.missing_reason.value_or(""), HasSubstr("no int8 form"));
    EXPECT_FALSE(delivery.path.has_value());
    EXPECT_FALSE(std::filesystem::exists(path));
    return;
  }
  EXPECT_FALSE(delivery.missing_reason.has_value());
  EXPECT_EQ(delivery.path, path);
  EXPECT_EQ(delivery.bytes, static_cast<int64_t>(std::filesystem::file_size(path)));
  EXPECT_EQ(delivery.calibration_examples, 40);
  EXPECT_TRUE(delivery.accuracy.has_value());

  const std::string whole = Path(spec.name + "_float32");
  ASSERT_THAT(WriteTorchScript(spec, model, whole), IsOk());
  at::NoGradGuard no_grad;
  const at::Tensor x = Inputs(data);
  const at::Tensor expected = torch::jit::load(whole).forward({x}).toTensor(), got = torch::jit::load(path).forward({x}).toTensor();
  ASSERT_EQ(got.sizes(), expected.sizes());
  ASSERT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_LT((got - expected).norm().item<double>(), 0.1 * expected.norm().item<double>());
  EXPECT_GT((got - expected).norm().item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizationTest, ::testing::ValuesIn(ArchitectureNames()), [](const auto& info) { return info.param; });

// Two inputs, two outputs, weights that are whole multiples of their row's scale: only the codes' rounding is left.
TEST(QuantizedArchiveTest, RowsHaveTheirOwnScale) {
  ArchitectureSpec spec{.name = "logistic", .input_shape = {2}, .output_count = 2};
  const std::vector<float> model = {127, -64, 0.127f, 0.001f, 0, 0};  // rows {127, -64} and {0.127, 0.001}
  ExampleStore store;
  store.input_shape = {2};
  store.inputs = std::vector<float>{0, 0, 255, 0, 0, 255, 255, 255};
  store.labels = {0, 1, 0, 1};
  store.output_count = 2;
  ASSERT_OK_AND_ASSIGN(const Dataset data, Dataset::Create(store));
  ASSERT_THAT(WriteQuantizedTorchScript(spec, model, data, Path("rows")), IsOk());
  at::NoGradGuard no_grad;
  const at::Tensor got = torch::jit::load(Path("rows")).forward({Inputs(data)}).toTensor();
  // Logits lie in [255 * -64, 255 * 127]: steps of 191; the first row is exact to half of one. The second row would be lost to it: both are near 0.
  const float step = 255.0f * (127 + 64) / 255;
  EXPECT_NEAR(got[1][0].item<float>(), 255 * 127, step / 2);
  EXPECT_NEAR(got[2][0].item<float>(), 255 * -64, step / 2);
  EXPECT_NEAR(got[3][0].item<float>(), 255 * 63, step / 2);
  EXPECT_NEAR(got[1][1].item<float>(), 32.4, step / 2);

  // With the first row silent the second has the steps for itself: 0.001 is a whole code of its row, not rounded away by the other's.
  const std::vector<float> quiet = {0, 0, 0.127f, 0.001f, 0, 0};
  ASSERT_THAT(WriteQuantizedTorchScript(spec, quiet, data, Path("quiet")), IsOk());
  const at::Tensor small = torch::jit::load(Path("quiet")).forward({Inputs(data)}).toTensor();
  const float fine = 255 * 0.128f / 255;
  EXPECT_NEAR(small[1][1].item<float>(), 255 * 0.127, fine / 2 + 1e-4);
  EXPECT_NEAR(small[2][1].item<float>(), 255 * 0.001, fine / 2 + 1e-4);
  EXPECT_EQ(small[3][0].item<float>(), 0);
}

// What training rounded is what the archive rounds: scored by both on the examples they were fitted to.
TEST(QuantizedArchiveTest, TakesRangesThatClientsFound) {
  ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  spec.quantization = "int8";
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const Dataset data = RandomDataset(spec, 64);
  std::vector<float> model = *trainer->InitialModel(2);
  ASSERT_OK_AND_ASSIGN(const Int8Delivery untrained, DeliverInt8(spec, model, data, true, "cross_entropy", Path("untrained")));
  EXPECT_EQ(untrained.calibration_examples, 64) << "nobody has looked yet";
  for (int round = 0; round < 3; ++round) {
    std::vector<float> local(model.size());
    const TrainingRecipe recipe{.local_epochs = 5, .batch_size = 16, .client_learning_rate = 0.05};
    ASSERT_THAT(trainer->Train(model, data, recipe, static_cast<uint64_t>(round), {}, absl::MakeSpan(local)), IsOk());
    model = local;
  }
  ASSERT_OK_AND_ASSIGN(const Int8Delivery delivery, DeliverInt8(spec, model, data, true, "cross_entropy", Path("trained")));
  EXPECT_FALSE(delivery.calibration_examples.has_value());
  EXPECT_THAT(WriteQuantizedTorchScript(spec, model, Dataset(), Path("alone")), IsOk()) << "nothing to calibrate";
  ASSERT_OK_AND_ASSIGN(const EvaluationResult whole, trainer->Evaluate(model, data, "cross_entropy"));
  EXPECT_GT(whole.accuracy, 0.9);
  EXPECT_NEAR(*delivery.accuracy, whole.accuracy, 0.05);
  // The ranges are no parameters of the float32 archive.
  ASSERT_THAT(WriteTorchScript(spec, model, Path("float32")), IsOk());
  for (const auto& parameter : torch::jit::load(Path("float32")).named_parameters()) EXPECT_EQ(parameter.name.find("range"), std::string::npos);
}

TEST(QuantizedArchiveTest, IsAQuarterOfTheSize) {
  const ArchitectureSpec spec = TypicalSpec("fedavg_cnn");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(1));
  ASSERT_THAT(WriteTorchScript(spec, model, Path("whole")), IsOk());
  ASSERT_OK_AND_ASSIGN(const Int8Delivery delivery, WriteQuantizedTorchScript(spec, model, RandomDataset(spec, 2), Path("quarter")));
  EXPECT_LE(static_cast<double>(*delivery.bytes), 0.27 * static_cast<double>(std::filesystem::file_size(Path("whole"))));
}

TEST(QuantizedArchiveTest, RefusesWhatDoesNotFit) {
  const ArchitectureSpec spec = TypicalSpec("logistic");
  const std::vector<float> model(7850);
  const Dataset data = RandomDataset(spec, 3);
  EXPECT_THAT(WriteQuantizedTorchScript(spec, std::vector<float>(3), data, Path("x")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 values")));
  EXPECT_THAT(WriteQuantizedTorchScript(spec, model, Dataset(), Path("x")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no examples")));
  EXPECT_THAT(WriteQuantizedTorchScript(spec, model, RandomDataset(TypicalSpec("lenet"), 3), Path("x")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shape")));
  EXPECT_THAT(WriteQuantizedTorchScript(spec, model, data, "/nonexistent/x.pt"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  EXPECT_THAT(WriteQuantizedTorchScript(TypicalSpec("char_lstm"), {}, data, Path("x")), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("embeddings")));
  std::ofstream(Path("junk")) << "no archive";
  EXPECT_THAT(EvaluateArchive(spec, Path("junk"), data, "cross_entropy"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a loadable")));
  EXPECT_THAT(EvaluateArchive(spec, Path("absent"), data, "cross_entropy"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  ASSERT_THAT(WriteQuantizedTorchScript(spec, model, data, Path("x")), IsOk());
  EXPECT_THAT(EvaluateArchive(spec, Path("x"), data, "no_loss"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unknown loss")));
}

TEST(QuantizedArchiveTest, AnArchitectureThatIsNoListOfLayersSaysSo) {
  ArchitectureSpec spec{.name = "torchscript", .input_shape = {2}, .output_count = 2};
  ASSERT_OK_AND_ASSIGN(const Int8Delivery delivery, DeliverInt8(spec, {}, Dataset(), false, "cross_entropy", Path("none")));
  EXPECT_THAT(delivery.missing_reason.value_or(""), HasSubstr("torchscript"));
}

TEST(QuantizedArchiveTest, PythonComputesTheSame) {
  if (std::system("/usr/bin/python3 -c 'import torch' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-torch is not installed";
  const ArchitectureSpec spec = TypicalSpec("lenet");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(5));
  const Dataset data = RandomDataset(spec, 7);
  ASSERT_THAT(WriteQuantizedTorchScript(spec, model, data, Path("python")), IsOk());
  at::NoGradGuard no_grad;
  const at::Tensor x = at::ones({2, 3, 32, 32}) / 2;
  const at::Tensor got = torch::jit::load(Path("python")).forward({x}).toTensor();
  const std::string script = "import torch; m = torch.jit.load('" + Path("python") +
                             "').eval(); y = m(torch.ones(2, 3, 32, 32) / 2); assert y.dtype == torch.float32 and y.shape == (2, 10); "
                             "print(' '.join(repr(v) for v in y[1].tolist()))";
  FILE* python = popen(("/usr/bin/python3 -c \"" + script + "\"").c_str(), "r");
  ASSERT_NE(python, nullptr);
  for (int k = 0; k < 10; ++k) {
    double value = NAN;
    ASSERT_EQ(fscanf(python, "%lf", &value), 1) << k;
    EXPECT_EQ(static_cast<float>(value), got[1][k].item<float>()) << k;
  }
  EXPECT_EQ(pclose(python), 0);
}

}  // namespace
}  // namespace fedwatt
