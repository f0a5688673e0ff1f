#include "script_tensors.h"

#include <cstring>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"

namespace fedwatt::internal {
namespace {

// The module that owns a dotted name, and the name's last part.
std::pair<torch::jit::Module, std::string> Owner(torch::jit::Module module, const std::string& name) {
  size_t begin = 0;
  for (size_t dot; (dot = name.find('.', begin)) != std::string::npos; begin = dot + 1) {
    module = module.attr(name.substr(begin, dot - begin)).toModule();
  }
  return {module, name.substr(begin)};
}

}  // namespace

at::Tensor FindTensor(const torch::jit::Module& module, const std::string& name) {
  const auto [owner, last] = Owner(module, name);
  return owner.attr(last).toTensor();
}

void SetTensor(const torch::jit::Module& module, const std::string& name, at::Tensor value) {
  auto [owner, last] = Owner(module, name);
  owner.setattr(last, std::move(value));
}

torch::jit::Module WithValues(const torch::jit::Module& module, const ParameterLayout& layout, absl::Span<const float> values, at::ScalarType type) {
  torch::jit::Module filled = module.deepcopy();
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    auto [owner, last] = Owner(filled, entry.name);
    const bool requires_grad = owner.attr(last).toTensor().requires_grad();
    const at::Tensor given = at::from_blob(const_cast<float*>(values.data()) + layout.offset(i), entry.shape, at::kFloat);
    owner.setattr(last, given.to(type, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(requires_grad));
  }
  return filled;
}

void ReadValues(const torch::jit::Module& module, const ParameterLayout& layout, absl::Span<float> values) {
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    // Looked up anew: forward may have put another tensor in a buffer's place.
    const at::Tensor tensor = FindTensor(module, entry.name).detach().contiguous();
    if (tensor.scalar_type() != at::kFloat || tensor.sizes() != entry.shape) {
      throw std::invalid_argument(absl::StrCat("the archive's forward changed the type or shape of '", entry.name, "'"));
    }
    std::memcpy(values.data() + layout.offset(i), tensor.data_ptr<float>(), tensor.nbytes());
  }
}

}  // namespace fedwatt::internal
