#include "absl/strings/str_cat.h"
#include "doctor/check.h"
#ifdef FEDWATT_HAS_TORCH
#include "fedwatt/model/torch/torch_trainer.h"
#endif

namespace fedwatt::tool {

void CheckKernels(const Settings& settings, Checks& checks) {
#ifdef FEDWATT_HAS_TORCH
  const int threads = settings.training.recipe.threads;
  const absl::Status configured = ConfigureKernels(threads);
  std::map<std::string, std::string> facts = KernelFacts();
  if (BlasIsOptimised()) {
    checks.push_back(
        {"blas", Verdict::kOk, absl::StrCat(facts["blas"], facts["blas_core"].empty() ? "" : ", core ", facts["blas_core"])});
  } else {
    checks.push_back({"blas", Verdict::kFail, "LibTorch's matrix products run on the reference BLAS, about 20 times slower",
                      "apt-get install libopenblas0-pthread"});
  }
  const std::string counts = absl::StrCat("ATen ", facts["aten_threads"], facts["blas_threads"].empty() ? "" : ", BLAS ",
                                          facts["blas_threads"], " (training.threads ", threads, ")");
  const std::string wanted = absl::StrCat(threads);
  if (!configured.ok()) {
    checks.push_back({"threads", Verdict::kFail, std::string(configured.message()), "set training.threads to 1"});
  } else if (facts["aten_threads"] != wanted || (!facts["blas_threads"].empty() && facts["blas_threads"] != wanted)) {
    checks.push_back({"threads", Verdict::kWarn, counts + "; a kernel library keeps its own count",
                      absl::StrCat("start with OPENBLAS_NUM_THREADS=", threads, " OMP_NUM_THREADS=", threads)});
  } else if (threads != 1) {
    checks.push_back(
        {"threads", Verdict::kWarn, counts + "; a run's bits then depend on the machine", "set training.threads to 1"});
  } else {
    checks.push_back({"threads", Verdict::kOk, counts});
  }
  const absl::Status bfloat16 = CheckBfloat16Instructions();
  checks.push_back({"bfloat16", Verdict::kOk, bfloat16.ok() ? "avx512_bf16; fit.format = \"auto\" measures whether it pays" : absl::StrCat(std::string(bfloat16.message()), "; trains in float32")});
#else
  checks.push_back({"blas", Verdict::kOk, "not checked: built without LibTorch (FEDWATT_WITH_TORCH=OFF)"});
#endif
}

}  // namespace fedwatt::tool
