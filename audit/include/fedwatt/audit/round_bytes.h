// What a round of a model moves, by really coding a few.
#ifndef FEDWATT_AUDIT_ROUND_BYTES_H_
#define FEDWATT_AUDIT_ROUND_BYTES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/round/compression_settings.h"

namespace fedwatt {

// Of one client in the last round coded. Payload: containers without what TLS and HTTP/2 add.
struct RoundBytes {
  std::string preset;
  int64_t uplink = 0;
  int64_t downlink = 0;           // to a client that holds the model of the round before
  int64_t downlink_newcomer = 0;  // to one that holds none
  int64_t rounds = 0;
};

// Trains round by round from `initial`, one client each from `clients`, and codes both directions as the preset says. Early rounds and a single client a round: later
// increments are shorter, and so are those of many clients' mean. Errors: as RunAttempt and Publication; INVALID_ARGUMENT  no clients
absl::StatusOr<RoundBytes> CodeRounds(const CompressionPreset& preset, const ArchitectureSpec& architecture, const TrainingRecipe& recipe, LocalTrainer& trainer,
                                      absl::Span<const float> initial, absl::Span<const Dataset> clients);

}  // namespace fedwatt

#endif  // FEDWATT_AUDIT_ROUND_BYTES_H_
