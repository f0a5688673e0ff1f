#include "fedwatt/rpc/conversion.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/text.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/kept_channels.h"

namespace fedwatt {
namespace {

constexpr size_t kMaxNameBytes = 128;

constexpr int64_t kMaxSpanSeconds = 315576000000;  // google.protobuf.Duration's own limit

absl::StatusOr<Digest> DigestFromProto(const std::string& raw, const char* field) {
  absl::StatusOr<Digest> digest = Digest::FromRaw(raw);
  if (!digest.ok()) return Annotate(digest.status(), field);
  return digest;
}

}  // namespace

google::protobuf::Duration ToProto(absl::Duration span) {
  google::protobuf::Duration proto;
  if (span >= absl::Seconds(kMaxSpanSeconds) || span <= -absl::Seconds(kMaxSpanSeconds)) {
    proto.set_seconds(span > absl::ZeroDuration() ? kMaxSpanSeconds : -kMaxSpanSeconds);
    return proto;
  }
  proto.set_seconds(absl::IDivDuration(span, absl::Seconds(1), &span));
  proto.set_nanos(static_cast<int32_t>(absl::IDivDuration(span, absl::Nanoseconds(1), &span)));
  return proto;
}

absl::StatusOr<absl::Duration> FromProto(const google::protobuf::Duration& span) {
  const int64_t seconds = span.seconds();
  const int32_t nanos = span.nanos();
  if (seconds < -kMaxSpanSeconds || seconds > kMaxSpanSeconds || nanos <= -1000000000 || nanos >= 1000000000 ||
      (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
    return absl::InvalidArgumentError(absl::StrCat("duration: ", seconds, " s and ", nanos, " ns do not make a span"));
  }
  if (seconds == kMaxSpanSeconds) return absl::InfiniteDuration();
  if (seconds == -kMaxSpanSeconds) return -absl::InfiniteDuration();
  return absl::Seconds(seconds) + absl::Nanoseconds(nanos);
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp proto;
  const int64_t seconds = absl::ToUnixSeconds(time);
  proto.set_seconds(seconds);
  proto.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return proto;
}

absl::StatusOr<absl::Time> FromProto(const google::protobuf::Timestamp& time) {
  // Years 1 to 9999.
  if (time.seconds() < -62135596800 || time.seconds() > 253402300799 || time.nanos() < 0 || time.nanos() >= 1000000000) {
    return absl::InvalidArgumentError(absl::StrCat("timestamp: ", time.seconds(), " s and ", time.nanos(), " ns do not make a time"));
  }
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

// Numbers are the same on both sides; the tests hold them together.
v1::RejectionReason ToProto(Rejection rejection) { return static_cast<v1::RejectionReason>(rejection); }

absl::StatusOr<Rejection> FromProto(v1::RejectionReason reason) {
  if (reason == v1::REJECTION_REASON_UNSPECIFIED || !v1::RejectionReason_IsValid(reason)) {
    return absl::InvalidArgumentError(absl::StrCat("rejection: unknown value ", static_cast<int>(reason)));
  }
  return static_cast<Rejection>(reason);
}

// Ours count from 0, the wire's from 1.
v1::EnergyTier ToProto(EnergyTier tier) { return static_cast<v1::EnergyTier>(static_cast<int>(tier) + 1); }

absl::StatusOr<EnergyTier> FromProto(v1::EnergyTier tier) {
  if (tier == v1::ENERGY_TIER_UNSPECIFIED || !v1::EnergyTier_IsValid(tier)) {
    return absl::InvalidArgumentError(absl::StrCat("energy tier: unknown value ", static_cast<int>(tier)));
  }
  return static_cast<EnergyTier>(tier - 1);
}

v1::Phase ToProto(Phase phase) { return static_cast<v1::Phase>(static_cast<int>(phase) + 1); }

absl::StatusOr<Phase> FromProto(v1::Phase phase) {
  if (phase == v1::PHASE_UNSPECIFIED || !v1::Phase_IsValid(phase)) {
    return absl::InvalidArgumentError(absl::StrCat("phase: unknown value ", static_cast<int>(phase)));
  }
  return static_cast<Phase>(phase - 1);
}

v1::Role ToProto(Peer::Role role) {
  switch (role) {
    case Peer::Role::kDevice: return v1::ROLE_CLIENT;
    case Peer::Role::kOperator: return v1::ROLE_OPERATOR;
    case Peer::Role::kReadOnly: return v1::ROLE_READ_ONLY;
    default: return v1::ROLE_UNSPECIFIED;
  }
}

absl::StatusOr<Peer::Role> FromProto(v1::Role role) {
  switch (role) {
    case v1::ROLE_UNSPECIFIED:
    case v1::ROLE_CLIENT: return Peer::Role::kDevice;
    case v1::ROLE_OPERATOR: return Peer::Role::kOperator;
    case v1::ROLE_READ_ONLY: return Peer::Role::kReadOnly;
    default: return absl::InvalidArgumentError(absl::StrCat("role: unknown value ", static_cast<int>(role)));
  }
}

google::protobuf::RepeatedPtrField<v1::PhaseSpan> ToProto(const std::vector<PhaseSpan>& spans) {
  google::protobuf::RepeatedPtrField<v1::PhaseSpan> protos;
  const EnergyReading* before = nullptr;
  for (const PhaseSpan& span : spans) {
    v1::PhaseSpan& proto = *protos.Add();
    proto.set_phase(ToProto(span.phase));
    proto.set_wall_us(absl::ToInt64Microseconds(span.wall));
    proto.set_cpu_us(absl::ToInt64Microseconds(span.cpu));
    const EnergyReading& reading = span.energy;
    if (reading.missing()) continue;
    proto.set_energy_uj(reading.energy->microjoules());
    if (reading.low) proto.set_low_energy_uj(reading.low->microjoules());
    if (reading.high) proto.set_high_energy_uj(reading.high->microjoules());
    if (reading.gross) proto.set_gross_energy_uj(reading.gross->microjoules());
    if (reading.idle) proto.set_idle_energy_uj(reading.idle->microjoules());
    const bool same = before != nullptr && before->tier == reading.tier && before->source == reading.source && before->domain == reading.domain;
    before = &reading;
    if (same) continue;
    v1::EnergyOrigin& origin = *proto.mutable_energy_origin();
    origin.set_tier(ToProto(reading.tier));
    origin.set_source(reading.source);
    origin.set_domain(reading.domain);
  }
  return protos;
}

absl::StatusOr<std::vector<PhaseSpan>> FromProto(const google::protobuf::RepeatedPtrField<v1::PhaseSpan>& protos) {
  std::vector<PhaseSpan> spans;
  EnergyReading origin;  // of the joules so far: its tier, source and domain
  for (const v1::PhaseSpan& proto : protos) {
    PhaseSpan span;
    FEDWATT_ASSIGN_OR_RETURN(span.phase, FromProto(proto.phase()));
    const std::string where = absl::StrCat("phase ", std::string(PhaseName(span.phase)));
    for (const PhaseSpan& earlier : spans) {
      if (earlier.phase == span.phase) return absl::InvalidArgumentError(absl::StrCat(where, " is reported twice"));
    }
    if (proto.wall_us() < 0 || proto.cpu_us() < 0) return absl::InvalidArgumentError(absl::StrCat(where, ": negative time"));
    span.wall = absl::Microseconds(proto.wall_us());
    span.cpu = absl::Microseconds(proto.cpu_us());
    if (proto.has_energy_origin()) {
      FEDWATT_ASSIGN_OR_RETURN(origin.tier, FromProto(proto.energy_origin().tier()));
      // Both go into the run record of whoever receives them.
      origin.source = TruncateUtf8(proto.energy_origin().source(), kMaxNameBytes);
      origin.domain = TruncateUtf8(proto.energy_origin().domain(), kMaxNameBytes);
    }
    EnergyReading& reading = span.energy;
    if (proto.has_energy_uj()) {
      reading = origin;
      reading.energy = Microjoules(proto.energy_uj());
      if (reading.tier == EnergyTier::kMissing) return absl::InvalidArgumentError(absl::StrCat(where, ": joules without an origin"));
    }
    if (proto.has_low_energy_uj()) reading.low = Microjoules(proto.low_energy_uj());
    if (proto.has_high_energy_uj()) reading.high = Microjoules(proto.high_energy_uj());
    if (proto.has_gross_energy_uj()) reading.gross = Microjoules(proto.gross_energy_uj());
    if (proto.has_idle_energy_uj()) reading.idle = Microjoules(proto.idle_energy_uj());
    // 1e18 uJ is a gigawatt for 1000 seconds; more would only serve to overflow sums.
    for (const std::optional<Energy>& energy : {reading.energy, reading.low, reading.high, reading.gross, reading.idle}) {
      if (energy && (energy->microjoules() < 0 || energy->microjoules() > int64_t{1000000000000000000})) {
        return absl::InvalidArgumentError(absl::StrCat(where, ": ", energy->microjoules(), " uJ, expected [0, 1e18]"));
      }
    }
    if (!reading.energy && (reading.low || reading.high)) return absl::InvalidArgumentError(absl::StrCat(where, ": an interval without a value"));
    if (!reading.energy && (reading.gross || reading.idle)) return absl::InvalidArgumentError(absl::StrCat(where, ": a share without a value"));
    if ((reading.gross && *reading.gross < *reading.energy) || (reading.idle && *reading.idle > *reading.energy)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": more than the whole, or less than its idle part"));
    }
    if ((reading.low && *reading.low > *reading.energy) || (reading.high && *reading.high < *reading.energy)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": the joules are outside their own interval"));
    }
    reading.window = span.wall;
    spans.push_back(std::move(span));
  }
  return spans;
}

int64_t PackedBytes(const v1::ArchitectureSpec& architecture) {
  int64_t bytes = 0;
  for (const auto& [group, ranges] : architecture.kept()) bytes += static_cast<int64_t>(ranges.packed().size());
  return bytes;
}

v1::Plan ToProto(const Plan& plan) {
  v1::Plan proto;
  proto.set_run_id(plan.run_id);
  v1::ArchitectureSpec& architecture = *proto.mutable_architecture();
  architecture.set_name(plan.architecture.name);
  architecture.mutable_input_shape()->Assign(plan.architecture.input_shape.begin(), plan.architecture.input_shape.end());
  architecture.set_output_count(plan.architecture.output_count);
  for (const auto& [key, value] : plan.architecture.options) (*architecture.mutable_options())[key] = value;
  for (const auto& [group, ranges] : plan.architecture.kept) {
    v1::ChannelRanges& kept = (*architecture.mutable_kept())[group];
    if (std::string packed = PackRanges(ranges); !packed.empty()) {
      kept.set_packed(std::move(packed));
      continue;
    }
    for (const ChannelRange& range : ranges) {
      v1::ChannelRange& one = *kept.add_ranges();
      one.set_begin(range.begin);
      one.set_end(range.end);
    }
  }
  architecture.set_quantization(plan.architecture.quantization);
  if (plan.architecture.archive_digest != Digest()) architecture.set_archive_digest(plan.architecture.archive_digest.Raw());
  proto.set_layout_digest(plan.layout_digest.Raw());
  v1::TrainingRecipe& recipe = *proto.mutable_recipe();
  recipe.set_local_epochs(plan.recipe.local_epochs);
  recipe.set_local_steps(plan.recipe.local_steps);
  recipe.set_batch_size(plan.recipe.batch_size);
  recipe.set_client_learning_rate(plan.recipe.client_learning_rate);
  recipe.set_momentum(plan.recipe.momentum);
  recipe.set_weight_decay(plan.recipe.weight_decay);
  recipe.set_proximal_mu(plan.recipe.proximal_mu);
  recipe.set_thread_count(plan.recipe.threads);
  recipe.set_loss(plan.recipe.loss);
  proto.mutable_fit()->set_width_fraction(plan.fit.width_fraction);
  proto.mutable_fit()->set_number_format(plan.fit.number_format);
  proto.set_uplink_codec(plan.uplink_codec);
  proto.set_downlink_codec(plan.downlink_codec);
  v1::UpdateLimits& limits = *proto.mutable_limits();
  limits.set_max_abs(plan.limits.max_abs);
  limits.set_max_norm(plan.limits.max_norm);
  limits.set_max_example_count(plan.limits.max_example_count);
  limits.set_max_update_bytes(plan.limits.max_update_bytes);
  proto.set_clip_norm(plan.clip_norm);
  proto.set_seed(static_cast<int64_t>(plan.seed));
  return proto;
}

absl::StatusOr<Plan> FromProto(const v1::Plan& proto) {
  Plan plan;
  plan.run_id = proto.run_id();
  const v1::ArchitectureSpec& architecture = proto.architecture();
  plan.architecture.name = architecture.name();
  plan.architecture.input_shape.assign(architecture.input_shape().begin(), architecture.input_shape().end());
  plan.architecture.output_count = architecture.output_count();
  plan.architecture.options = {architecture.options().begin(), architecture.options().end()};
  for (const auto& [group, ranges] : architecture.kept()) {
    std::vector<ChannelRange>& kept = plan.architecture.kept[group];
    if (!ranges.packed().empty()) {
      if (ranges.ranges_size() > 0) return absl::InvalidArgumentError(absl::StrCat("plan.architecture.kept: '", OneLine(group), "' is both packed and listed"));
      FEDWATT_ASSIGN_OR_RETURN(kept, UnpackRanges(ranges.packed()));
    }
    for (const v1::ChannelRange& range : ranges.ranges()) kept.push_back({range.begin(), range.end()});
  }
  if (!architecture.archive_digest().empty()) {
    FEDWATT_ASSIGN_OR_RETURN(plan.architecture.archive_digest, DigestFromProto(architecture.archive_digest(), "plan.architecture.archive_digest"));
  }
  plan.architecture.quantization = architecture.quantization();
  FEDWATT_ASSIGN_OR_RETURN(plan.layout_digest, DigestFromProto(proto.layout_digest(), "plan.layout_digest"));
  const v1::TrainingRecipe& recipe = proto.recipe();
  plan.recipe.local_epochs = recipe.local_epochs();
  plan.recipe.local_steps = recipe.local_steps();
  plan.recipe.batch_size = recipe.batch_size();
  plan.recipe.client_learning_rate = recipe.client_learning_rate();
  plan.recipe.momentum = recipe.momentum();
  plan.recipe.weight_decay = recipe.weight_decay();
  plan.recipe.proximal_mu = recipe.proximal_mu();
  plan.recipe.threads = recipe.thread_count();
  plan.recipe.loss = recipe.loss();
  plan.fit.width_fraction = proto.fit().width_fraction();
  plan.fit.number_format = proto.fit().number_format();
  plan.uplink_codec = proto.uplink_codec();
  plan.downlink_codec = proto.downlink_codec();
  plan.limits.max_abs = proto.limits().max_abs();
  plan.limits.max_norm = proto.limits().max_norm();
  plan.limits.max_example_count = proto.limits().max_example_count();
  plan.limits.max_update_bytes = proto.limits().max_update_bytes();
  plan.clip_norm = proto.clip_norm();
  plan.seed = static_cast<uint64_t>(proto.seed());
  FEDWATT_RETURN_IF_ERROR(ValidatePlan(plan));
  return plan;
}

}  // namespace fedwatt
