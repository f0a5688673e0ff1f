// Threads and identity of the kernel libraries under LibTorch.
#include <dlfcn.h>
#include <stdlib.h>

#include <string_view>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/process.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "trainable_model.h"

namespace fedwatt {
namespace {

// OpenBLAS is reached through libblas.so.3, which may be something else: ask the running process.
template <typename Function>
Function* Symbol(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

// OpenBLAS picks its kernels when it is loaded, by the processor's model number; for one younger than itself it takes those of
// 2004 (0.3.21 on Emerald Rapids: 1.7 times slower steps). Have it choose again by what the processor can do. OPENBLAS_CORETYPE,
// when the user set it, stands; children inherit what is set here.
void ReplaceOutdatedBlasCore() {
#if defined(__x86_64__)
  auto* name = Symbol<char*()>("openblas_get_corename");
  auto* quit = Symbol<void()>("gotoblas_dynamic_quit");
  auto* init = Symbol<void()>("gotoblas_dynamic_init");
  if (name == nullptr || quit == nullptr || init == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr) return;
  if (std::string_view(name()) != "Prescott" || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl");
  setenv("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell", 1);
  quit();
  init();
#endif
}

}  // namespace

namespace internal {

void UseKernelThreads(int threads) {
  // ATen keeps the number per thread; asking for it makes a new thread take over the process-wide one.
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
  static auto* get = Symbol<int()>("openblas_get_num_threads");
  static auto* set = Symbol<void(int)>("openblas_set_num_threads");
  if (get != nullptr && set != nullptr && get() != threads) set(threads);
}

void WarmKernelsUp() {
  at::set_num_threads(at::get_num_threads());  // also sizes a pool whose maker asks /proc and /sys for the processors
  at::manual_seed(0);                          // the generator is made from /dev/urandom, whatever its seed becomes
  // A small step of a network through each library of kernels.
  const at::Tensor images = at::ones({16, 3, 8, 8}), kernel = at::ones({4, 3, 3, 3}), weight = at::ones({2, 4 * 36});
  for (const bool training : {false, true}) {
    const at::AutoGradMode mode(training);
    kernel.set_requires_grad(training);
    weight.set_requires_grad(training);
    const at::Tensor output = at::linear(at::conv2d(images, kernel).flatten(1), weight);
    if (training) output.sum().backward();
  }
}

}  // namespace internal

absl::Status ConfigureKernels(int threads) {
  if (threads < 1 || threads > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("kernel threads must be in [1, 1024], got ", threads));
  }
  return internal::CatchTorch([&] {
    static const bool replaced = (ReplaceOutdatedBlasCore(), true);
    (void)replaced;
    internal::UseKernelThreads(threads);
    // Only the first call in a process may set it, and only before parallel work began; it decides nothing about results.
    static const bool once = [&] {
      try {
        at::set_num_interop_threads(threads);
      } catch (const c10::Error&) {
      }
      return true;
    }();
    (void)once;
    return absl::OkStatus();
  });
}

std::map<std::string, std::string> KernelFacts() {
  std::map<std::string, std::string> facts;
  facts["libtorch"] = TORCH_VERSION;
  facts["aten_threads"] = absl::StrCat(at::get_num_threads());
  // LibTorch says it in prose only: "... CPU capability usage: AVX2".
  for (absl::string_view line : absl::StrSplit(at::show_config(), '\n')) {
    const size_t colon = line.find("CPU capability usage: ");
    if (colon != line.npos) facts["cpu_capability"] = std::string(line.substr(colon + 22));
  }
  if (auto* config = Symbol<char*()>("openblas_get_config")) {
    facts["blas"] = std::string(absl::StripAsciiWhitespace(config()));
    if (auto* core = Symbol<char*()>("openblas_get_corename")) facts["blas_core"] = core();
    if (auto* threads = Symbol<int()>("openblas_get_num_threads")) facts["blas_threads"] = absl::StrCat(threads());
  } else {
    facts["blas"] = BlasIsOptimised() ? "optimised, unnamed" : "reference";
  }
  return facts;
}

absl::Status CheckBfloat16Instructions() {
  static const std::string sets = DescribeMachine().instruction_sets;
  for (absl::string_view set : absl::StrSplit(sets, ' ')) {
    if (set == "avx512_bf16") return absl::OkStatus();
  }
  return absl::UnimplementedError("this processor has no bfloat16 instructions (avx512_bf16)");
}

bool BlasIsOptimised() {
  for (const char* name : {"openblas_get_config", "mkl_get_max_threads", "MKL_Get_Max_Threads", "bli_info_get_version_str"}) {
    if (dlsym(RTLD_DEFAULT, name) != nullptr) return true;
  }
  return false;
}

}  // namespace fedwatt
