#include "record_json.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/local_trainer.h"

namespace fedwatt::internal {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kRoundSchema[] = "fedwatt.round.v1";
constexpr char kAttemptSchema[] = "fedwatt.attempt.v1";
constexpr char kSummarySchema[] = "fedwatt.summary.v1";

constexpr IntensityBasis kIntensityBases[] = {IntensityBasis::kObserved,    IntensityBasis::kEstimated, IntensityBasis::kForecast,
                                              IntensityBasis::kPersistence, IntensityBasis::kStatic,    IntensityBasis::kMissing};
constexpr IntensityKind kIntensityKinds[] = {IntensityKind::kAverage, IntensityKind::kMarginal};
constexpr Phase kPhases[] = {Phase::kInit,   Phase::kIdleWait,  Phase::kDownload,   Phase::kDecode,
                             Phase::kTrain,  Phase::kEvaluate,  Phase::kFit,        Phase::kEncode,
                             Phase::kUpload, Phase::kAggregate, Phase::kCheckpoint, Phase::kMetering};

// How one C++ type lies in JSON. Put(value) makes the JSON; Take(json, value) returns what is expected instead, or "".
template <typename T>
struct Form;

template <>
struct Form<bool> {
  static Json Put(bool value) { return value; }
  static std::string Take(const Json& json, bool& value) {
    if (!json.is_boolean()) return "true or false";
    value = json.get<bool>();
    return "";
  }
};
template <>
struct Form<int64_t> {
  static Json Put(int64_t value) { return value; }
  static std::string Take(const Json& json, int64_t& value) {
    if (!json.is_number_integer() ||
        (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))) {
      return "an integer";
    }
    value = json.get<int64_t>();
    return "";
  }
};
template <>
struct Form<uint64_t> {
  static Json Put(uint64_t value) { return value; }
  static std::string Take(const Json& json, uint64_t& value) {
    if (!json.is_number_unsigned()) return "an integer >= 0";
    value = json.get<uint64_t>();
    return "";
  }
};
template <>
struct Form<double> {
  static Json Put(double value) { return value; }  // NaN and infinity are dumped as null
  static std::string Take(const Json& json, double& value) {
    if (!json.is_number()) return "a number";
    value = json.get<double>();
    return "";
  }
};
template <>
struct Form<std::string> {
  static Json Put(const std::string& value) { return value; }
  static std::string Take(const Json& json, std::string& value) {
    if (!json.is_string()) return "a string";
    value = json.get<std::string>();
    return "";
  }
};
template <>
struct Form<Energy> {
  static Json Put(Energy value) { return value.microjoules(); }
  static std::string Take(const Json& json, Energy& value) {
    int64_t microjoules = 0;
    std::string problem = Form<int64_t>::Take(json, microjoules);
    if (problem.empty()) value = Microjoules(microjoules);
    return problem;
  }
};
template <>
struct Form<CarbonMass> {
  static Json Put(CarbonMass value) { return value.micrograms(); }
  static std::string Take(const Json& json, CarbonMass& value) {
    int64_t micrograms = 0;
    std::string problem = Form<int64_t>::Take(json, micrograms);
    if (problem.empty()) value = Micrograms(micrograms);
    return problem;
  }
};
// Finds a value by the name that it is written with. The error is what was expected.
template <typename T, typename Values>
std::string TakeNamed(const Json& json, const Values& values, std::string_view (*name)(T), const char* expected, T& value) {
  for (T candidate : values) {
    if (json.is_string() && json.get<std::string>() == name(candidate)) {
      value = candidate;
      return "";
    }
  }
  return expected;
}
template <>
struct Form<IntensityBasis> {
  static Json Put(IntensityBasis value) { return std::string(IntensityBasisName(value)); }
  static std::string Take(const Json& json, IntensityBasis& value) { return TakeNamed(json, kIntensityBases, IntensityBasisName, "a basis of intensities", value); }
};
template <>
struct Form<IntensityKind> {
  static Json Put(IntensityKind value) { return std::string(IntensityKindName(value)); }
  static std::string Take(const Json& json, IntensityKind& value) { return TakeNamed(json, kIntensityKinds, IntensityKindName, "average or marginal", value); }
};
template <>
struct Form<EnergyTier> {
  static Json Put(EnergyTier value) { return std::string(EnergyTierName(value)); }
  static std::string Take(const Json& json, EnergyTier& value) {
    if (json.is_string()) {
      if (absl::StatusOr<EnergyTier> tier = ParseEnergyTier(json.get<std::string>()); tier.ok()) {
        value = *tier;
        return "";
      }
    }
    return "an energy tier";
  }
};
template <>
struct Form<absl::Time> {
  static Json Put(absl::Time value) { return absl::FormatTime(absl::RFC3339_full, value, absl::UTCTimeZone()); }
  static std::string Take(const Json& json, absl::Time& value) {
    return json.is_string() && absl::ParseTime(absl::RFC3339_full, json.get<std::string>(), &value, nullptr) ? ""
                                                                                                             : "an RFC 3339 time";
  }
};
template <>
struct Form<absl::Duration> {  // seconds
  static Json Put(absl::Duration value) { return absl::ToDoubleSeconds(value); }
  static std::string Take(const Json& json, absl::Duration& value) {
    double seconds = 0;
    std::string problem = Form<double>::Take(json, seconds);
    if (problem.empty()) value = absl::Seconds(seconds);
    return problem;
  }
};
template <>
struct Form<Phase> {
  static Json Put(Phase value) { return std::string(PhaseName(value)); }
  static std::string Take(const Json& json, Phase& value) { return TakeNamed(json, kPhases, PhaseName, "a phase", value); }
};
template <typename T>
struct Form<std::map<std::string, T>> {
  static Json Put(const std::map<std::string, T>& value) {
    Json json = Json::object();
    for (const auto& [key, item] : value) json[key] = Form<T>::Put(item);
    return json;
  }
  static std::string Take(const Json& json, std::map<std::string, T>& value) {
    if (!json.is_object()) return "an object";
    for (const auto& [key, item] : json.items()) {
      if (std::string problem = Form<T>::Take(item, value[key]); !problem.empty())
        return absl::StrCat("for '", key, "' ", problem);
    }
    return "";
  }
};
template <>
struct Form<std::map<EnergyTier, Energy>> {
  static Json Put(const std::map<EnergyTier, Energy>& value) {
    Json json = Json::object();
    for (const auto& [tier, energy] : value) json[std::string(EnergyTierName(tier))] = energy.microjoules();
    return json;
  }
  static std::string Take(const Json& json, std::map<EnergyTier, Energy>& value) {
    if (!json.is_object()) return "an object";
    for (const auto& [key, item] : json.items()) {
      EnergyTier tier = EnergyTier::kMissing;
      Energy energy;
      if (!Form<EnergyTier>::Take(key, tier).empty() || !Form<Energy>::Take(item, energy).empty()) return "tiers and microjoules";
      value[tier] = energy;
    }
    return "";
  }
};
template <typename T>
struct Form<std::vector<T>> {
  static Json Put(const std::vector<T>& value) {
    Json json = Json::array();
    for (const T& item : value) json.push_back(Form<T>::Put(item));
    return json;
  }
  static std::string Take(const Json& json, std::vector<T>& value) {
    if (!json.is_array()) return "an array";
    for (const Json& item : json) {
      if (std::string problem = Form<T>::Take(item, value.emplace_back()); !problem.empty()) return problem;
    }
    return "";
  }
};

// Both walk the same list of fields, so what is written is what is read.
class Writing {
 public:
  static constexpr bool kReads = false;
  template <typename T>
  void operator()(const char* name, const T& value) {
    json_[name] = Form<T>::Put(value);
  }
  template <typename T>
  void operator()(const char* name, const std::optional<T>& value) {
    json_[name] = value ? Form<T>::Put(*value) : Json(nullptr);
  }
  Json& json() { return json_; }

 private:
  Json json_ = Json::object();
};

class Reading {
 public:
  static constexpr bool kReads = true;
  explicit Reading(const Json& json) : json_(json) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    const auto it = json_.find(name);
    if (it == json_.end()) return Fail(name, "is missing");
    Take(name, *it, value);
  }
  // Absent, as written by an earlier release, is as good as null.
  template <typename T>
  void operator()(const char* name, std::optional<T>& value) {
    const auto it = json_.find(name);
    if (it == json_.end() || it->is_null()) return;
    Take(name, *it, value.emplace());
  }
  // The first problem, or "".
  const std::string& problem() const { return problem_; }

 private:
  template <typename T>
  void Take(const char* name, const Json& json, T& value) {
    if (std::string expected = Form<T>::Take(json, value); !expected.empty()) {
      Fail(name, absl::StrCat("expected ", expected, ", got ",
                              json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60)));
    }
  }
  void Fail(const char* name, const std::string& what) {
    if (problem_.empty()) problem_ = absl::StrCat("field '", name, "': ", what);
  }

  const Json& json_;
  std::string problem_;
};

// A value that has a default where a record of an earlier release lacks it.
template <typename Fields, typename T>
void Lately(Fields& f, const char* name, T& value) {
  std::optional<std::remove_const_t<T>> field;
  if constexpr (!Fields::kReads) field = value;
  f(name, field);
  if constexpr (Fields::kReads) {
    if (field) value = *field;
  }
}

template <typename Fields, typename Totals>
void VisitCarbon(Fields& f, Totals& t) {
  f("client_operational_ug", t.operational);
  f("client_embodied_ug", t.embodied);
  f("client_wasted_ug", t.wasted);
  f("client_water_l", t.water_l);
  Lately(f, "client_carbon_clients", t.clients);
  f("carbon_kind", t.kind);
  Lately(f, "carbon_basis", t.basis);
  Lately(f, "carbon_source", t.source);
  f("carbon_age_seconds", t.age);
}

// Also walks it: refuses what no run can have spent, and sums that would overflow. Reading does not, so that a coordinator can still continue such a record.
class Bounding {
 public:
  static constexpr bool kReads = false;

  void operator()(const char* name, int64_t value) { Count(name, static_cast<double>(value)); }
  void operator()(const char* name, Energy value) { Count(name, static_cast<double>(value.microjoules())); }
  void operator()(const char* name, CarbonMass value) { Count(name, static_cast<double>(value.micrograms())); }
  void operator()(const char* name, double value) {
    const std::string_view text = name;
    const bool fraction = text.ends_with("accuracy") || text.ends_with("accuracy_by_width") || text.ends_with("fraction");
    const bool loss = text.ends_with("loss");
    if (!std::isfinite(value) || (!loss && value < 0) || (fraction && value > 1) || std::abs(value) > (loss ? kMaxLoss : 1e15)) {
      Fail(name, absl::StrCat("expected ", fraction ? "a fraction in [0, 1]" : loss ? absl::StrCat("a number of at most ", kMaxLoss, " either way") : "a number >= 0", ", got ", value));
    }
  }
  void operator()(const char* name, absl::Duration value) { (*this)(name, absl::ToDoubleSeconds(value)); }
  void operator()(const char* name, absl::Time value) {
    if (value < absl::UnixEpoch() || value > absl::FromUnixSeconds(int64_t{253402300799})) {
      Fail(name, "expected a time from 1970 to 9999");
    }
  }
  void operator()(const char* name, const std::map<std::string, int64_t>& value) {
    for (const auto& [key, count] : value) (*this)(name, count);
  }
  void operator()(const char* name, const std::map<std::string, double>& value) {
    for (const auto& [key, number] : value) (*this)(name, number);
  }
  void operator()(const char* name, const std::map<EnergyTier, Energy>& value) {
    for (const auto& [key, energy] : value) (*this)(name, energy);
  }
  template <typename T>
  void operator()(const char* name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
  }
  void operator()(const char*, bool) {}
  void operator()(const char*, const std::string&) {}
  void operator()(const char*, EnergyTier) {}
  void operator()(const char*, IntensityKind) {}
  void operator()(const char*, IntensityBasis) {}
  void operator()(const char*, Phase) {}
  // The first problem, or "".
  const std::string& problem() const { return problem_; }

 private:
  void Count(const char* name, double value) {
    // What is left of a budget that was overspent.
    if (std::string_view(name).starts_with("budget_")) value = std::abs(value);
    if (value < 0) return Fail(name, absl::StrCat("expected a number >= 0, got ", value));
    if (std::string_view(name).starts_with("expected_")) return;  // nobody adds up forecasts, and a client's lies may make them large
    // A third of the range, because several of these are added to each other.
    if ((sums_[name] += value) > 3e18) Fail(name, "the sum over all lines is beyond what can be counted");
  }
  void Fail(const char* name, const std::string& what) {
    if (problem_.empty()) problem_ = absl::StrCat("field '", name, "': ", what);
  }

  std::map<std::string_view, double> sums_;  // by field names, which are literals
  std::string problem_;
};

// `Record` is const when writing.
template <typename Fields, typename Record>
void VisitRound(Fields& f, Record& r) {
  f("run_id", r.run_id);
  f("round", r.round);
  std::string outcome = r.committed ? "committed" : "abandoned";
  f("outcome", outcome);
  if constexpr (Fields::kReads) r.committed = outcome == "committed";
  std::optional<std::string> reason;
  if (!r.committed) reason = r.reason;
  if (Fields::kReads || reason) f("reason", reason);
  if constexpr (Fields::kReads) r.reason = reason.value_or("");
  f("started_at", r.started_at);
  f("finished_at", r.finished_at);
  f("wall_seconds", r.wall_seconds);
  f("select_seconds", r.select_seconds);
  f("collect_seconds", r.collect_seconds);
  f("aggregate_seconds", r.aggregate_seconds);
  f("evaluate_seconds", r.evaluate_seconds);
  f("virtual_seconds", r.virtual_seconds);
  f("clients_selected", r.clients_selected);
  f("clients_completed", r.clients_completed);
  f("clients_rejected", r.clients_rejected);
  f("clients_late", r.clients_late);
  f("clients_dropped", r.clients_dropped);
  f("rejections", r.rejections);
  Lately(f, "refusals", r.refusals);
  f("deferred_seconds", r.deferred_seconds);
  Lately(f, "deferral_reason", r.deferral_reason);
  f("budget_left_uj", r.budget_left);
  f("budget_carbon_left_ug", r.budget_carbon_left);
  f("train_examples", r.train_examples);
  f("train_loss", r.train_loss);
  f("eval_accuracy", r.eval_accuracy);
  f("eval_loss", r.eval_loss);
  f("eval_examples", r.eval_examples);
  f("federated_eval_accuracy", r.federated_eval_accuracy);
  f("federated_eval_loss", r.federated_eval_loss);
  f("federated_eval_examples", r.federated_eval_examples);
  Lately(f, "eval_accuracy_by_width", r.eval_accuracy_by_width);
  f("uplink_payload_bytes", r.uplink_payload_bytes);
  f("downlink_payload_bytes", r.downlink_payload_bytes);
  f("uplink_wire_bytes", r.uplink_wire_bytes);
  f("downlink_wire_bytes", r.downlink_wire_bytes);
  f("uplink_header_bytes", r.uplink_header_bytes);
  f("downlink_header_bytes", r.downlink_header_bytes);
  f("uplink_dense_bytes", r.uplink_dense_bytes);
  f("downlink_dense_bytes", r.downlink_dense_bytes);
  f("client_energy_uj", r.client_energy);
  f("client_energy_low_uj", r.client_energy_low);
  f("client_energy_high_uj", r.client_energy_high);
  f("client_energy_clients", r.client_energy_clients);
  f("client_energy_wasted_uj", r.client_energy_wasted);
  f("client_energy_tier", r.client_energy_tier);
  f("client_energy_by_tier_uj", r.client_energy_by_tier);
  f("client_train_seconds", r.client_train_seconds);
  f("client_cpu_seconds", r.client_cpu_seconds);
  f("client_energy_quarantined_uj", r.client_energy_quarantined);
  Lately(f, "quarantines", r.quarantines);
  f("client_energy_suspect_uj", r.client_energy_suspect);
  Lately(f, "clients_suspect", r.clients_suspect);
  Lately(f, "ledger_root", r.ledger_root);
  VisitCarbon(f, r.client_carbon);
  f("server_operational_ug", r.server_operational);
  f("server_embodied_ug", r.server_embodied);
  f("server_energy_uj", r.server_energy.energy);
  f("server_energy_tier", r.server_energy.tier);
  f("server_energy_source", r.server_energy.source);
  f("server_cpu_seconds", r.server_cpu_seconds);
  f("peak_rss_bytes", r.peak_rss_bytes);
  f("model_digest", r.model_digest);
  f("model_parameters", r.model_parameters);
}

template <typename Fields, typename Span>
void VisitPhase(Fields& f, Span& s) {
  f("phase", s.phase);
  f("seconds", s.wall);
  f("cpu_seconds", s.cpu);
  f("energy_uj", s.energy.energy);
  f("tier", s.energy.tier);
  f("source", s.energy.source);
  f("gross_uj", s.energy.gross);
  f("idle_uj", s.energy.idle);
}

template <typename Fields, typename Record>
void VisitFit(Fields& f, Record& r) {
  f("width_fraction", r.fit.width_fraction);
  f("kept_parameters", r.fit_parameter_count);
  f("number_format", r.fit.number_format);
  f("number_format_reason", r.fit_format_reason);
  f("macs_per_example", r.fit_macs);
  f("declined_reason", r.fit_declined_reason);
  f("expected_seconds", r.fit_expected_seconds);
  f("expected_energy_uj", r.fit_expected_energy);
}

template <typename Fields, typename Delivery>
void VisitInt8(Fields& f, Delivery& d) {
  f("int8_model_path", d.path);
  f("int8_missing_reason", d.missing_reason);
  f("int8_model_bytes", d.bytes);
  f("int8_calibration_examples", d.calibration_examples);
  f("int8_accuracy", d.accuracy);
}

// `fit` and `phases` are nested and handled by the callers.
template <typename Fields, typename Record>
void VisitAttempt(Fields& f, Record& r) {
  f("round", r.round);
  f("client", r.client);
  f("partition", r.partition);
  f("attempt", r.attempt);
  f("outcome", r.outcome);
  f("reason", r.reason);
  f("train_examples", r.train_examples);
  f("train_loss", r.train_loss);
  f("completed_work", r.completed_work);
  f("uplink_payload_bytes", r.uplink_payload_bytes);
  f("downlink_payload_bytes", r.downlink_payload_bytes);
  f("uplink_wire_bytes", r.uplink_wire_bytes);
  f("downlink_wire_bytes", r.downlink_wire_bytes);
  f("uplink_header_bytes", r.uplink_header_bytes);
  f("downlink_header_bytes", r.downlink_header_bytes);
  f("codec_uplink", r.codec_uplink);
  f("codec_downlink", r.codec_downlink);
  f("site", r.site);
  Lately(f, "energy_class", r.energy_class);
  Lately(f, "quarantine", r.quarantine);
  Lately(f, "suspicion", r.suspicion);
  f("ledger_sequence", r.ledger_sequence);
  Lately(f, "ledger_head", r.ledger_head);
  f("operational_ug", r.carbon.operational);
  f("embodied_ug", r.carbon.embodied);
  f("water_l", r.carbon.water_l);
  Lately(f, "carbon_basis", r.carbon.basis);
  f("g_per_kwh", r.carbon.g_per_kwh);
  Lately(f, "carbon_source", r.carbon.source);
  f("carbon_age_seconds", r.carbon.age);
}

template <typename Fields>
void VisitTotals(Fields& f, const RunTotals& t) {
  f("rounds_finished", t.rounds);
  f("rounds_committed", t.rounds_committed);
  f("wall_seconds", t.wall_seconds);
  f("select_seconds", t.select_seconds);
  f("collect_seconds", t.collect_seconds);
  f("aggregate_seconds", t.aggregate_seconds);
  f("evaluate_seconds", t.evaluate_seconds);
  f("clients_selected", t.clients_selected);
  f("clients_completed", t.clients_completed);
  f("clients_rejected", t.clients_rejected);
  f("clients_late", t.clients_late);
  f("clients_dropped", t.clients_dropped);
  f("rejections", t.rejections);
  f("refusals", t.refusals);
  f("deferred_seconds", t.deferred_seconds);
  f("budget_left_uj", t.budget_left);
  f("budget_carbon_left_ug", t.budget_carbon_left);
  f("train_examples", t.train_examples);
  f("uplink_payload_bytes", t.uplink_payload_bytes);
  f("downlink_payload_bytes", t.downlink_payload_bytes);
  f("uplink_wire_bytes", t.uplink_wire_bytes);
  f("downlink_wire_bytes", t.downlink_wire_bytes);
  f("uplink_header_bytes", t.uplink_header_bytes);
  f("downlink_header_bytes", t.downlink_header_bytes);
  f("uplink_dense_bytes", t.uplink_dense_bytes);
  f("downlink_dense_bytes", t.downlink_dense_bytes);
  f("client_energy_uj", t.client_energy);
  f("client_energy_low_uj", t.client_energy_low);
  f("client_energy_high_uj", t.client_energy_high);
  f("client_energy_clients", t.client_energy_clients);
  f("client_energy_wasted_uj", t.client_energy_wasted);
  f("client_energy_tier", t.client_energy_tier);
  f("client_energy_by_tier_uj", t.client_energy_by_tier);
  f("client_train_seconds", t.client_train_seconds);
  f("client_cpu_seconds", t.client_cpu_seconds);
  f("client_energy_quarantined_uj", t.client_energy_quarantined);
  f("quarantines", t.quarantines);
  f("client_energy_suspect_uj", t.client_energy_suspect);
  f("clients_suspect", t.clients_suspect);
  VisitCarbon(f, t.client_carbon);
  f("server_operational_ug", t.server_operational);
  f("server_embodied_ug", t.server_embodied);
  f("server_energy_uj", t.server_energy);
  f("server_energy_tier", t.server_energy_tier);
  f("server_cpu_seconds", t.server_cpu_seconds);
  f("peak_rss_bytes", t.peak_rss_bytes);
  f("final_accuracy", t.final_accuracy);
  f("best_accuracy", t.best_accuracy);
}

absl::Status Damaged(const std::string& where, const std::string& problem) {
  return absl::DataLossError(absl::StrCat(where, ": ", problem));
}

// An object whose `schema` is the one asked for.
absl::StatusOr<Json> Parse(std::string_view text, const char* schema, const std::string& where) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Damaged(where, "not a JSON object");
  std::string found;
  Reading reading(json);
  reading("schema", found);
  if (!reading.problem().empty()) return Damaged(where, reading.problem());
  if (found != schema) return Damaged(where, absl::StrCat("field 'schema': expected ", schema, ", got ", found));
  return json;
}

void PutSpans(const char* name, const std::vector<PhaseSpan>& spans, Json& json) {
  Json array = Json::array();
  for (const PhaseSpan& span : spans) {
    Writing phase;
    VisitPhase(phase, span);
    array.push_back(std::move(phase.json()));
  }
  json[name] = std::move(array);
}

absl::Status TakeSpans(const char* name, bool required, const Json& json, const std::string& where, std::vector<PhaseSpan>& spans) {
  const auto it = json.find(name);
  if (it == json.end() && !required) return absl::OkStatus();
  if (it == json.end() || !it->is_array()) return Damaged(where, absl::StrCat("field '", name, "': expected an array"));
  for (const Json& item : *it) {
    if (!item.is_object()) return Damaged(where, absl::StrCat("field '", name, "': expected objects"));
    Reading phase(item);
    VisitPhase(phase, spans.emplace_back());
    if (!phase.problem().empty()) return Damaged(where, absl::StrCat("in '", name, "': ", phase.problem()));
  }
  return absl::OkStatus();
}

std::string Dump(const Json& json, int indent = -1) { return json.dump(indent, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::string RoundToJson(const RoundRecord& record) {
  Writing fields;
  fields("schema", std::string(kRoundSchema));
  VisitRound(fields, record);
  PutSpans("server_phases", record.server_phases, fields.json());
  return Dump(fields.json());
}

absl::StatusOr<RoundRecord> RoundFromJson(std::string_view text, const std::string& where) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, Parse(text, kRoundSchema, where));
  RoundRecord record;
  Reading fields(json);
  VisitRound(fields, record);
  if (!fields.problem().empty()) return Damaged(where, fields.problem());
  if (json["outcome"] != "committed" && json["outcome"] != "abandoned") {
    return Damaged(where, absl::StrCat("field 'outcome': expected committed or abandoned, got ", Dump(json["outcome"])));
  }
  FEDWATT_RETURN_IF_ERROR(TakeSpans("server_phases", /*required=*/false, json, where, record.server_phases));
  return record;
}

std::string AttemptToJson(const AttemptRecord& record) {
  Writing fields;
  fields("schema", std::string(kAttemptSchema));
  VisitAttempt(fields, record);
  Writing fit;
  VisitFit(fit, record);
  fields.json()["fit"] = std::move(fit.json());
  PutSpans("phases", record.phases, fields.json());
  PutSpans("between", record.between, fields.json());
  return Dump(fields.json());
}

absl::StatusOr<AttemptRecord> AttemptFromJson(std::string_view text, const std::string& where) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, Parse(text, kAttemptSchema, where));
  AttemptRecord record;
  Reading fields(json);
  VisitAttempt(fields, record);
  if (!fields.problem().empty()) return Damaged(where, fields.problem());
  if (!json.contains("fit") || !json["fit"].is_object()) return Damaged(where, "field 'fit': expected an object");
  Reading fit(json["fit"]);
  VisitFit(fit, record);
  if (!fit.problem().empty()) return Damaged(where, absl::StrCat("in 'fit': ", fit.problem()));
  FEDWATT_RETURN_IF_ERROR(TakeSpans("phases", /*required=*/true, json, where, record.phases));
  FEDWATT_RETURN_IF_ERROR(TakeSpans("between", /*required=*/false, json, where, record.between));
  return record;
}

absl::Status CheckRanges(const RunRecord& run, const std::string& where) {
  Bounding rounds, attempts;
  for (size_t i = 0; i < run.rounds.size(); ++i) {
    VisitRound(rounds, run.rounds[i]);
    for (const PhaseSpan& span : run.rounds[i].server_phases) VisitPhase(rounds, span);
    if (!rounds.problem().empty()) return Damaged(absl::StrCat(where, "/rounds.jsonl:", i + 1), rounds.problem());
  }
  for (size_t i = 0; i < run.attempts.size(); ++i) {
    AttemptRecord attempt = run.attempts[i];
    // What a refused client claimed stands in the record as it came; it was not counted, and must not make the record unreadable.
    if (attempt.outcome != "accepted") attempt.train_examples.reset();
    VisitAttempt(attempts, std::as_const(attempt));
    VisitFit(attempts, std::as_const(attempt));
    for (const std::vector<PhaseSpan>* spans : {&attempt.phases, &attempt.between}) {
      for (const PhaseSpan& span : *spans) VisitPhase(attempts, span);
    }
    if (!attempts.problem().empty()) return Damaged(absl::StrCat(where, "/clients.jsonl:", i + 1), attempts.problem());
  }
  if (run.summary) {
    Bounding summary;
    summary("target_accuracy", run.summary->target_accuracy);
    if (!summary.problem().empty()) return Damaged(absl::StrCat(where, "/summary.json"), summary.problem());
  }
  return absl::OkStatus();
}

std::string TotalsToJson(const RunTotals& totals) {
  Writing fields;
  VisitTotals(fields, totals);
  return Dump(fields.json());
}

std::string SummaryToJson(const RunSummary& summary, const std::vector<RoundRecord>& rounds) {
  Writing fields;
  fields("schema", std::string(kSummarySchema));
  fields("run_id", summary.run_id);
  fields("version", summary.version);
  fields("command", summary.command);
  fields("seed", summary.seed);
  fields("simulated", summary.simulated);
  VisitTotals(fields, SumRounds(rounds));
  fields("model_path", summary.model_path);
  VisitInt8(fields, summary.int8);
  fields("model_channels", summary.model_channels);
  if (summary.target_accuracy) {
    const TargetFigures figures = FiguresToTarget(rounds, *summary.target_accuracy);
    fields("target_accuracy", summary.target_accuracy);
    fields("rounds_to_target", figures.rounds);
    std::optional<double> joules;
    if (figures.client_energy) joules = figures.client_energy->joules();
    fields("joules_to_target", joules);
    fields("uplink_bytes_to_target", figures.uplink_bytes);
    fields("downlink_bytes_to_target", figures.downlink_bytes);
  }
  Json& json = fields.json();
  json["machine"] = Form<std::map<std::string, std::string>>::Put(summary.machine_facts);
  json["machine"]["meters_found"] = Form<std::vector<std::string>>::Put(summary.meters_found);
  json["machine"]["meters_refused"] = Form<std::map<std::string, std::string>>::Put(summary.meters_refused);
  json["config"] = Json::object();
  for (const SettingWithOrigin& setting : summary.config) {
    json["config"][setting.key] = {{"value", setting.value}, {"origin", setting.origin}};
  }
  return Dump(json, 2) + "\n";
}

absl::StatusOr<RunSummary> SummaryFromJson(std::string_view text, const std::string& where) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, Parse(text, kSummarySchema, where));
  RunSummary summary;
  Reading fields(json);
  fields("run_id", summary.run_id);
  fields("version", summary.version);
  fields("command", summary.command);
  fields("seed", summary.seed);
  fields("simulated", summary.simulated);
  fields("model_path", summary.model_path);
  VisitInt8(fields, summary.int8);
  fields("model_channels", summary.model_channels);
  fields("target_accuracy", summary.target_accuracy);
  if (!fields.problem().empty()) return Damaged(where, fields.problem());
  for (const char* name : {"machine", "config"}) {
    if (!json.contains(name) || !json[name].is_object())
      return Damaged(where, absl::StrCat("field '", name, "': expected an object"));
  }
  Reading machine(json["machine"]);
  machine("meters_found", summary.meters_found);
  machine("meters_refused", summary.meters_refused);
  if (!machine.problem().empty()) return Damaged(where, absl::StrCat("in 'machine': ", machine.problem()));
  for (const auto& [key, value] : json["machine"].items()) {
    if (value.is_string()) summary.machine_facts[key] = value.get<std::string>();
  }
  for (const auto& [key, value] : json["config"].items()) {
    if (!value.is_object()) return Damaged(where, absl::StrCat("in 'config': '", key, "': expected an object"));
    SettingWithOrigin setting{.key = key};
    Reading reading(value);
    reading("value", setting.value);
    reading("origin", setting.origin);
    if (!reading.problem().empty()) return Damaged(where, absl::StrCat("in 'config': '", key, "': ", reading.problem()));
    summary.config.push_back(std::move(setting));
  }
  return summary;
}

}  // namespace fedwatt::internal
