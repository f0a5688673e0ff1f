// What can be dropped of a TorchScript archive, so that clients may train narrower copies of it.
#ifndef FEDWATT_MODEL_TORCHSCRIPT_ARCHIVE_CHANNELS_H_
#define FEDWATT_MODEL_TORCHSCRIPT_ARCHIVE_CHANNELS_H_

#include <string>
#include <vector>

#include "fedwatt/model/channels.h"

namespace fedwatt {

struct ArchiveChannels {
  std::vector<ChannelGroup> groups;  // proven: a narrower copy computes what the masked whole does, in training and in evaluation mode
  std::vector<WholeChannels> whole;  // what stays whole, and why
  std::vector<double> uses;          // LocalTrainer::UsesPerExample() of the archive
};

// In one line, for people: how many groups there are, and what stays whole.
std::string Summarise(const ArchiveChannels& channels);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCHSCRIPT_ARCHIVE_CHANNELS_H_
