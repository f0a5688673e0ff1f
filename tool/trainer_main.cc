// fedwatt-trainer: the child process in which foreign TorchScript runs. Other binaries start it; people do not.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/model/torch/trainer_child.h"
#include "fedwatt/model/torchscript/protocol.h"

int main() {
  struct stat info;
  if (fstat(fedwatt::internal::kTrainerFd, &info) != 0 || !S_ISSOCK(info.st_mode)) {
    std::fputs("fedwatt-trainer trains TorchScript models for fedwatt-server, fedwatt-client and fedwatt-fleet, which start it.\n"
               "There is nothing to do by hand: set model.torchscript in their configuration.\n",
               stderr);
    return 2;
  }
  if (!fedwatt::ConfigureKernels(1).ok()) return 70;
  return fedwatt::RunTrainerChild(fedwatt::internal::kTrainerFd, [](int status) { _exit(status); });
}
