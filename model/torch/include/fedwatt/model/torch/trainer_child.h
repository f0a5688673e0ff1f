// The inside of fedwatt-trainer: loads, trains, scores and saves foreign TorchScript archives on behalf of its parent.
#ifndef FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_
#define FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_

namespace fedwatt {

// Serves the parent at the other end of `fd` (fedwatt/model/torchscript/protocol.h) until it hangs up. Returns the exit status: 0 when
// the parent left, 2 when it said something that is not the protocol. When that happens while the archive runs, calls `end_process`
// with the same status, from any thread; it must end the process at once (_exit), for the archive may never return.
// Call once, from the main of a process that does nothing else.
int RunTrainerChild(int fd, void (*end_process)(int status));

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCH_TRAINER_CHILD_H_
