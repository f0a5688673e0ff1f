#include "fedwatt/energy/ledger.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json OrNull(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Energy>)
    return value->microjoules();
  else if constexpr (std::is_same_v<T, CarbonMass>)
    return value->micrograms();
  else
    return *value;
}

Json SpansToJson(const std::vector<PhaseSpan>& spans) {
  Json array = Json::array();
  for (const PhaseSpan& span : spans) {
    Json json = {{"phase", std::string(PhaseName(span.phase))},
                 {"wall_us", absl::ToInt64Microseconds(span.wall)},
                 {"cpu_us", absl::ToInt64Microseconds(span.cpu)},
                 {"energy_uj", OrNull(span.energy.energy)},
                 {"low_uj", OrNull(span.energy.low)},
                 {"high_uj", OrNull(span.energy.high)},
                 {"tier", std::string(EnergyTierName(span.energy.tier))},
                 {"source", span.energy.source},
                 {"domain", span.energy.domain}};
    // Not there in ledgers of before, whose hashes must stay what they are.
    if (span.energy.gross) json["gross_uj"] = OrNull(span.energy.gross);
    if (span.energy.idle) json["idle_uj"] = OrNull(span.energy.idle);
    array.push_back(std::move(json));
  }
  return array;
}

}  // namespace

std::string LedgerPayload(const LedgerRecord& record) {
  const Json phases = SpansToJson(record.phases);
  Json json = {{"run", record.run_id},
                     {"round", record.round},
                     {"client", record.client},
                     {"attempt", record.attempt},
                     {"outcome", record.outcome},
                     {"finished_us", absl::ToUnixMicros(record.finished)},
                     {"examples", OrNull(record.example_count)},
                     {"uplink_payload_bytes", record.uplink_payload_bytes},
                     {"downlink_payload_bytes", record.downlink_payload_bytes},
                     {"uplink_wire_bytes", OrNull(record.uplink_wire_bytes)},
                     {"downlink_wire_bytes", OrNull(record.downlink_wire_bytes)},
                     {"operational_ug", OrNull(record.operational)},
                     {"embodied_ug", OrNull(record.embodied)},
                     {"phases", phases}};
  if (!record.between.empty()) json["between"] = SpansToJson(record.between);
  return json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

absl::StatusOr<std::vector<LedgerEntry>> ReadLedger(std::string_view text, const std::string& where) {
  FEDWATT_ASSIGN_OR_RETURN(std::vector<ChainEntry> lines, ReadHashChain(text, where));
  std::vector<LedgerEntry> entries;
  for (ChainEntry& line : lines) {
    const Json json = Json::parse(line.payload, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("attempt") || !json["attempt"].is_string()) {
      return absl::DataLossError(absl::StrCat(where, ": record ", line.position.sequence, ": no record"));
    }
    entries.push_back({line.position, std::move(line.payload), json["attempt"].get<std::string>()});
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<HashChainFile> file, HashChainFile::Open(path));
  return std::unique_ptr<Ledger>(new Ledger(std::move(file)));
}

}  // namespace fedwatt
