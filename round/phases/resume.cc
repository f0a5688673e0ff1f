// A round under way as a text that outlives the coordinator, and how it goes on from there.
#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/planted.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

template <typename T>
std::string Word(const std::optional<T>& value) {
  return value ? absl::StrFormat("%.17g", static_cast<double>(*value)) : "-";
}

// The words of one line, taken one after the other; sticks at the first that does not fit.
class Words {
 public:
  explicit Words(absl::string_view line) : rest_(line) {}
  bool good() const { return good_; }
  absl::string_view Text() {
    const std::pair<absl::string_view, absl::string_view> split = absl::StrSplit(rest_, absl::MaxSplits(' ', 1));
    rest_ = split.second;
    return split.first;
  }
  absl::string_view Rest() const { return rest_; }
  int64_t Integer() {
    int64_t value = 0;
    good_ &= absl::SimpleAtoi(Text(), &value);
    return value;
  }
  int64_t Count() {
    const int64_t value = Integer();
    good_ &= value >= 0;
    return value;
  }
  absl::Time Instant() { return absl::FromUnixNanos(Integer()); }
  std::optional<double> Number() {
    const absl::string_view text = Text();
    if (text == "-") return std::nullopt;
    double value = 0;
    good_ &= absl::SimpleAtod(text, &value) && std::isfinite(value);
    return value;
  }
  std::optional<int64_t> MaybeCount() {
    const std::optional<double> value = Number();
    good_ &= !value || (*value >= 0 && *value < 9e15);
    return value && good_ ? std::optional<int64_t>(static_cast<int64_t>(*value)) : std::nullopt;
  }

 private:
  absl::string_view rest_;
  bool good_ = true;
};

}  // namespace

std::string SaveRound(const EngineState& state) {
  const RoundRecord& record = state.record;
  std::string text = absl::StrCat("1 ", state.round, " ", state.aim, " ", state.quorum, " ", absl::ToUnixNanos(record.started_at), " ", record.clients_selected, " ",
                                  Word(record.deferred_seconds), " ", record.deferral_reason, "\n");
  for (const auto& [reason, count] : record.refusals) absl::StrAppend(&text, "refused ", count, " ", reason, "\n");
  for (const auto& [id, attempt] : state.attempts) {
    const Claim& claim = attempt.claim;
    const auto microjoules = [](const std::optional<Energy>& energy) { return energy ? absl::StrCat(energy->microjoules()) : std::string("-"); };
    absl::StrAppend(&text, "attempt ", id, " ", attempt.partition, " ", absl::ToUnixNanos(attempt.started), " ", Word(attempt.site), " ",
                    Word(attempt.max_power ? std::optional<double>(attempt.max_power->watts()) : std::nullopt), " ", claim.expected_uj, " ", claim.most_uj, " ", claim.expected_ug, " ",
                    claim.most_ug, " ", Word(attempt.cost ? std::optional<double>(attempt.cost->macs_per_example) : std::nullopt), " ",
                    Word(attempt.cost ? std::optional<double>(attempt.cost->parameters) : std::nullopt), " ", Word(std::optional<double>(attempt.width)), " ",
                    Word(attempt.expected_seconds), " ", microjoules(attempt.expected_energy), " ", attempt.client, "\n");
  }
  return text;
}

absl::Status RestoreRound(EngineState& state, const std::string& text) {
  const auto damaged = [](absl::string_view line) { return absl::DataLossError(absl::StrCat("the round under way is damaged: '", line.substr(0, 80), "'")); };
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.empty()) return damaged("");
  Words head(lines[0]);
  const int64_t version = head.Integer(), round = head.Count();
  // The round has been finished since.
  if (head.good() && version == 1 && round != state.options.next_round) return absl::OkStatus();
  state.aim = head.Count();
  state.quorum = head.Count();
  RoundRecord& record = state.record;
  record = RoundRecord{};
  record.run_id = state.options.run_id;
  record.round = round;
  record.started_at = head.Instant();
  record.clients_selected = head.Count();
  record.deferred_seconds = head.Number();
  record.deferral_reason = std::string(head.Rest());
  if (!head.good() || version != 1 || state.quorum < 1) return damaged(lines[0]);
  for (size_t i = 1; i < lines.size(); ++i) {
    Words words(lines[i]);
    const absl::string_view what = words.Text();
    if (what == "refused") {
      const int64_t count = words.Count();
      record.refusals[std::string(words.Rest())] = count;
    } else if (what == "attempt") {
      Attempt attempt;
      attempt.id = std::string(words.Text());
      attempt.partition = words.Count();
      attempt.started = words.Instant();
      if (const std::optional<int64_t> site = words.MaybeCount()) attempt.site = static_cast<size_t>(*site);
      if (const std::optional<double> watts = words.Number()) attempt.max_power = Watts(*watts);
      attempt.claim.expected_uj = words.Count();
      attempt.claim.most_uj = words.Count();
      attempt.claim.expected_ug = words.Count();
      attempt.claim.most_ug = words.Count();
      const std::optional<double> macs = words.Number(), parameters = words.Number(), width = words.Number();
      if (macs && parameters) attempt.cost = WidthCost{*macs, *parameters};
      attempt.width = width.value_or(0);
      attempt.expected_seconds = words.Number();
      if (const absl::string_view energy = words.Text(); energy != "-") {
        int64_t microjoules = 0;
        if (!absl::SimpleAtoi(energy, &microjoules)) return damaged(lines[i]);
        attempt.expected_energy = Microjoules(microjoules);
      }
      attempt.client = std::string(words.Rest());
      if (!words.good() || attempt.id.empty() || !(attempt.width > 0 && attempt.width <= 1)) return damaged(lines[i]);
      // The carbon model may have lost sites since.
      if (attempt.site && (state.options.carbon == nullptr || *attempt.site >= state.options.carbon->sites().size())) attempt.site.reset();
      if (!state.attempts.emplace(attempt.id, attempt).second) return damaged(lines[i]);
      state.budget.Readmit(state.histories[HistoryKey(attempt.client, attempt.partition)], attempt.claim);
    } else {
      return damaged(lines[i]);
    }
    if (!words.good()) return damaged(lines[i]);
  }
  state.phase = RoundPhase::kCollect;
  state.phase_started = record.started_at;
  return absl::OkStatus();
}

void ResumeRound(EngineState& state, bool closed, Effects& effects) {
  state.deadline = closed ? state.now : state.now + state.options.deadline;
  // The machine's clock may have been set back between the two starts, and no span is negative.
  if (!FEDWATT_PLANTED(negative_spans)) state.record.started_at = std::min(state.record.started_at, state.now);
  state.phase_started = std::min(state.phase_started, state.now);
  for (auto& [id, attempt] : state.attempts) attempt.started = std::min(attempt.started, state.now);
  for (const auto& [id, attempt] : state.attempts) {
    effects.push_back(StartAttempt{id, state.round, attempt.partition, state.deadline, attempt.width, attempt.expected_seconds, attempt.expected_energy});
  }
  effects.push_back(SetTimer{state.deadline});
}

}  // namespace fedwatt::internal
