#include "fedwatt/audit/round_bytes.h"

#include <utility>
#include <vector>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/participant.h"
#include "fedwatt/round/publication.h"
#include "fedwatt/round/rate_control.h"

namespace fedwatt {

absl::StatusOr<RoundBytes> CodeRounds(const CompressionPreset& preset, const ArchitectureSpec& architecture, const TrainingRecipe& recipe, LocalTrainer& trainer,
                                      absl::Span<const float> initial, absl::Span<const Dataset> clients) {
  if (clients.empty()) return absl::InvalidArgumentError("bytes of a round: expected at least one client's examples");
  Plan plan;
  plan.run_id = "audit";
  plan.architecture = architecture;
  plan.layout_digest = trainer.layout().digest();
  plan.recipe = recipe;
  FEDWATT_ASSIGN_OR_RETURN(RateControl rate, RateControl::Create(preset.uplink));
  plan.uplink_codec = rate.spec();
  plan.downlink_codec = preset.downlink;
  FEDWATT_ASSIGN_OR_RETURN(Publication publication,
                           Publication::Create(trainer.layout(), preset.downlink, std::vector<float>(initial.begin(), initial.end()), /*from_seed=*/true));
  RoundBytes bytes{.preset = preset.name};
  ParticipantScratch scratch;
  for (size_t i = 0; i < clients.size(); ++i) {
    const int64_t round = static_cast<int64_t>(i) + 1;
    const DecodedModel held{trainer.layout(), *publication.values(), std::nullopt};
    const Digest held_digest = publication.digest();
    FEDWATT_ASSIGN_OR_RETURN(const AttemptResult attempt, RunAttempt(plan, round, static_cast<int64_t>(i), held, clients[i], trainer, {}, nullptr, nullptr, scratch));
    bytes.uplink = static_cast<int64_t>(attempt.update.size());
    rate.NoteUpdate(bytes.uplink, trainer.layout().value_count());
    rate.Commit();
    plan.uplink_codec = rate.spec();
    // The trained model itself: what the uplink loses is not what is asked here.
    FEDWATT_RETURN_IF_ERROR(publication.Move(scratch.local));
    const ModelOffer offer = publication.OfferFor({&held_digest, 1}, /*whole=*/false);
    bytes.downlink = offer.blob == nullptr ? 0 : static_cast<int64_t>(offer.blob->size());
    ++bytes.rounds;
  }
  if (const ModelOffer offer = publication.OfferFor({}, /*whole=*/false); offer.blob != nullptr) bytes.downlink_newcomer = static_cast<int64_t>(offer.blob->size());
  return bytes;
}

}  // namespace fedwatt
