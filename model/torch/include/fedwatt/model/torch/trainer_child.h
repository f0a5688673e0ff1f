// The inside of fedwatt-trainer: loads, trains, scores and saves foreign TorchScript archives on behalf of its parent.
#ifndef FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_
#define FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_

namespace fedwatt {

// Serves the parent at the other end of `fd` (fedwatt/model/torchscript/protocol.h) until it hangs up. Returns the exit status: 0 when
// the parent left, 2 when it said something that is not the protocol. The process ends at once when the parent dies, whatever
// the archive is doing. Call it from main, once, and from a process that does nothing else.
int RunTrainerChild(int fd);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_
