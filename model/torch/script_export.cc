#include "script_export.h"

#include <stdexcept>
#include <string>
#include <vector>

namespace fedwatt::internal {
namespace {

// What attributes of modules are in the copy's classes. Nodes stand behind what they use.
void Retype(torch::jit::Block& block) {
  for (torch::jit::Node* node : block.nodes()) {
    if (node->kind() == c10::prim::CallMethod) throw std::invalid_argument("a call is left in the forward of a narrower copy, so it can't be written");
    if (node->kind() == c10::prim::GetAttr) {
      if (const auto owner = node->inputs()[0]->type()->cast<c10::ClassType>()) node->output()->setType(owner->getAttribute(node->s(c10::attr::name)));
    }
    for (torch::jit::Block* inner : node->blocks()) Retype(*inner);
  }
}

void RemoveMethods(const c10::ClassTypePtr& type, torch::jit::CompilationUnit& unit) {
  std::vector<c10::QualifiedName> names;
  for (const torch::jit::Function* method : type->methods()) names.push_back(method->qualname());
  for (const c10::QualifiedName& name : names) {
    type->unsafeRemoveMethod(name.name());
    unit.unsafeRemoveMethod(name);
  }
}

}  // namespace

torch::jit::Module WithForward(const torch::jit::Module& module, std::shared_ptr<torch::jit::Graph> graph) {
  const c10::FunctionSchema schema = module.get_method("forward").function().getSchema();
  torch::jit::Module own = module.clone();
  const std::shared_ptr<torch::jit::CompilationUnit> unit = own._ivalue()->compilation_unit();
  for (const torch::jit::Module& part : own.modules()) RemoveMethods(part.type(), *unit);
  graph->inputs()[0]->setType(own.type());
  Retype(*graph->block());
  std::vector<c10::Argument> arguments = schema.arguments();
  arguments[0] = arguments[0].cloneWithType(own.type());
  torch::jit::Function* forward = unit->create_function(c10::QualifiedName(*own.type()->name(), "forward"), std::move(graph));
  forward->setSchema(c10::FunctionSchema(schema.name(), schema.overload_name(), std::move(arguments), schema.returns()));
  own.type()->addMethod(forward);
  return own;
}

}  // namespace fedwatt::internal
