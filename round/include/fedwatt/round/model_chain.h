// The downlink as a chain of versions: what clients hold of the global model moves on a lattice, so that a client at any version of the chain
// reaches the newest by adding whole numbers of steps, and ends at the same bits whichever way it went.
//
//   version t+1 = version t + step * n,   n = sign(r) * floor(|r| / step + 1 - d),   r = master - version t
//   d = `deadzone` where n leads away from version 0, `reversal` where it leads back
//
// Going back takes more than going on: the noise of updates makes most parameters waver about an edge, and each crossing costs bits, while one that drifts is
// met half a step ahead.
//
// The residual r carries what was not sent into the next rounds: error feedback on the server, one for all clients (Tang et al. 2019,
// DoubleSqueeze, arXiv 1905.05957, section 3; there per round and for all workers, here with catching up). Every value is a whole multiple of its
// tensor's unit and smaller than 2^24 of them, so float32 additions are exact: increments of several versions add up to one, in any order.
// A client that missed k versions gets the sum of k increments, coded once for all clients at that version.
//
// Tensors whose changes are smoother than they look move in the cosine domain of their rows (fedwatt/compression/block_dct.h): the first increment shows
// which, and for the rest of the chain their coefficients are what moves on the lattice.
#ifndef FEDWATT_ROUND_MODEL_CHAIN_H_
#define FEDWATT_ROUND_MODEL_CHAIN_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// The name by which `compression.downlink` asks for a chain, and by which clients say that they can follow one.
inline constexpr std::string_view kChainStage = "chain";

struct ChainOptions {
  // Exactly one of three is given, > 0:
  double step = 0;          // rounded to five significant bits, so that increments stay exact
  double multiple = 0;      // in units of the weights' root mean square at the start, or of five first moves if these are greater
  double rate = 0;          // bits a value and version, to which the step and the dead zone are held
  double deadzone = 0.55;   // [0.5, 1]: a value moves on once its residual passes this share of a step
  double reversal = 1;      // [0.5, 2]: and back, towards version 0, once it passes this one
  int64_t length = 64;      // versions kept for clients that come back; [1, 4096]
  bool dct = true;          // "transform=dct" or "transform=none"
};
// "chain:multiple=2", "chain:step=0.03", "chain:rate=0.05:length=32". Errors: INVALID_ARGUMENT  naming the option, its range and what was got
absl::StatusOr<ChainOptions> ParseChain(std::string_view spec);
// Whether a downlink is spelled as a chain.
bool IsChain(std::string_view spec);

// Moves a model onto the lattice of the chain that starts with it: the same values on both ends. Averaged buffers stay as they are.
void SnapToLattice(const ParameterLayout& layout, absl::Span<float> values);

// A version as both ends hold it. Version 0 has no basis yet, and its coefficients are its values.
struct ChainPosition {
  std::string basis;                // a DctShape for each parameter tensor, in which it moves. Empty at version 0
  std::vector<float> coefficients;  // on the lattice, in layout order; averaged buffers as they are
  // How far each coefficient has moved since version 0, by which both ends tell where it moves next (round/chain_order.h). Empty without a basis.
  std::vector<float> moved;
};
// The model at a position. Deterministic on every machine.
std::vector<float> ChainValues(const ParameterLayout& layout, const ChainPosition& position);
// A position as the payload of a whole-model container of codec "chain", and back. Errors: DATA_LOSS  not such a payload; a value is not finite
std::string WriteChainPosition(const ChainPosition& position);
absl::StatusOr<ChainPosition> ReadChainPosition(const ParameterLayout& layout, std::string_view payload);

// The bytes that take one version to another: increments of parameters, whole averaged buffers.
struct ChainDelta {
  Digest base;    // ModelDigest of the version it starts from
  Digest target;  // and of the one it leads to
  std::string payload;
};

// Applies `payload` to the version that the delta starts from. On error `position` is spoilt. `payload` may be hostile.
// Errors: DATA_LOSS  not what a chain makes for this layout and position; a coefficient would leave the lattice, a value not be finite
absl::Status ApplyChainDelta(const ParameterLayout& layout, std::string_view payload, ChainPosition& position);

// The coordinator's end. Thread-compatible.
class ModelChain {
 public:
  // `initial` is snapped and becomes version 0. `reproducible`: whoever restores the chain will have it at hand again, so that it need not be saved.
  // Errors: INVALID_ARGUMENT  a value too large for any lattice
  static absl::StatusOr<ModelChain> Create(const ParameterLayout& layout, const ChainOptions& options, absl::Span<const float> initial,
                                           bool reproducible = true);

  // Takes over the step of a chain that came to its end after at least one version, and what its rate control had found. Before the first Append().
  void Continue(const ModelChain& before);

  // Adds the version that follows `master`. Errors: RESOURCE_EXHAUSTED  a value has left the lattice: the chain must start anew
  absl::Status Append(absl::Span<const float> master);

  const std::vector<float>& values() const { return values_; }
  const ChainPosition& position() const { return position_; }
  const Digest& digest() const { return versions_.empty() ? initial_digest_ : versions_.back().digest; }
  const Digest& initial_digest() const { return initial_digest_; }
  // Of the version to come.
  double step() const { return step_; }

  // From the version that `held` names to the newest. Errors: NOT_FOUND  the version is unknown or too old
  absl::StatusOr<ChainDelta> DeltaFrom(const Digest& held) const;

  // Everything a restart needs; `initial` as given to Create. Errors: DATA_LOSS  damaged; INVALID_ARGUMENT  of another layout
  std::string Save() const;
  absl::Status Restore(std::string_view state);

 private:
  struct Version {
    Digest digest;       // of the version that the increment leads to
    double step = 0;
    std::string symbols;  // EncodeSymbols of the increment
  };

  ModelChain() = default;
  // `rate`: bits a parameter of the increment just made.
  void Control(double rate);
  void ChooseBasis(absl::Span<const float> master);
  void ChooseStep(absl::Span<const float> master);

  ParameterLayout layout_;
  ChainOptions options_;
  std::vector<float> initial_;        // values of version 0
  std::vector<int> exponents_;        // of its coefficients, a parameter tensor each, once there is a basis
  ChainPosition position_;
  bool reproducible_ = true;
  bool continues_ = false;  // the step is another chain's
  Digest initial_digest_;
  std::vector<float> values_;
  std::deque<Version> versions_;  // the newest last; at most options_.length
  double step_ = 0;
  double deadzone_ = 0.55;
  double common_step_ = 0;  // of which all steps so far are multiples
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_MODEL_CHAIN_H_
