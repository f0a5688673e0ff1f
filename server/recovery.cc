// What outlives this process, and what an earlier one left.
#include <fcntl.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/conversion.h"

namespace fedwatt::internal {

void Coordinator::Recollect(const AttemptRecord& record) {
  if (record.quarantine.empty() && !record.energy_class.empty()) plausibility_.Learn(ClaimOf(record));
  if (absl::StatusOr<Digest> head = Digest::FromHex(record.ledger_head); head.ok() && record.ledger_sequence) {
    LedgerHead& newest = ledger_heads_[HistoryKey(record.client, record.partition)];
    if (*record.ledger_sequence > newest.sequence) newest = LedgerHead{*record.ledger_sequence, {}, *head};
  }
}

absl::Status Coordinator::ReadAttemptsOfEarlierStarts() {
  // Lines of a round that is not over: they follow from its journal, or from its repetition.
  const std::string file = absl::StrCat(options_->out_directory, "/clients.jsonl");
  Disk& disk = *options_->disk;
  if (const int64_t keep = store_->attempts_file_bytes(); disk.FileSize(file) > keep && !FEDWATT_PLANTED(lines_not_cut)) {
    const int handle = disk.Open(file, O_RDWR);
    const int cut = handle < 0 ? handle : disk.Truncate(handle, keep);
    if (handle >= 0) disk.Close(handle);
    if (cut < 0) return ErrnoStatus(-cut, "cutting clients.jsonl at the last finished round");
  }
  // A record that does not read is the report's trouble, not the run's: the checks then start anew.
  if (absl::StatusOr<std::vector<AttemptRecord>> attempts = ReadAttempts(options_->out_directory, disk); attempts.ok()) {
    for (const AttemptRecord& attempt : *attempts) Recollect(attempt);
  }
  FEDWATT_ASSIGN_OR_RETURN(std::vector<std::string> known, store_->ReadAttempts());
  for (const std::string& bytes_of_one : known) {
    EndedAttempt ended;
    if (!ended.kept.ParseFromString(bytes_of_one)) return absl::DataLossError("state database: an attempt of an earlier round does not read");
    ended_order_.push_back(ended.kept.attempt_id());
    ended_.insert_or_assign(ended_order_.back(), std::move(ended));
  }
  return absl::OkStatus();
}

absl::Status Coordinator::ReadSessions() {
  for (const auto& [id, bytes] : store_->sessions()) {
    v1::CheckInRequest request;
    if (!request.ParseFromString(bytes)) return absl::DataLossError("state database: a session does not read");
    Session session = MakeSession(id, request);
    session.dormant = true;
    if (!session_of_partition_.emplace(session.partition, id).second) continue;
    sessions_.emplace(id, std::move(session));
  }
  return absl::OkStatus();
}

absl::Status Coordinator::OpenJournal(int64_t round) {
  Journal::Options options;
  options.path = store_->journal_path(round);
  options.round = round;
  options.disk = options_->disk;
  options.background = options_->background;
  options.on_failure = [this](const absl::Status& status) {
    loop_->Post([this, status] { FailRun(Annotate(status, "no update is acknowledged any more")); });
  };
  options.on_full = [this](bool full) { loop_->Post([this, full] { NoteFullDisk(full); }); };
  FEDWATT_ASSIGN_OR_RETURN(Journal::Opened opened, Journal::Open(std::move(options)));
  if (opened.torn_bytes > 0) {
    Log(options_->log, LogLevel::kWarning, absl::StrCat(store_->journal_path(round), ": its last ", opened.torn_bytes, " bytes were not written in whole and not acknowledged; cut off"));
  }
  journal_ = std::move(opened.journal);
  journal_round_ = round;
  replay_ = std::move(opened.records);
  return absl::OkStatus();
}

void Coordinator::ResumeRound() {
  resuming_ = true;
  std::vector<std::pair<v1::EndedAttempt, FileRange>> known;
  bool closed = false;
  for (Journal::Record& record : std::exchange(replay_, {})) {
    v1::EndedAttempt ended;
    if (!ended.ParseFromString(record.message)) return FailRun(absl::DataLossError(absl::StrCat("the record before offset ", record.body.offset, " of ", record.body.path, " does not read")));
    // Its clients were told that nothing more counts.
    closed |= ended.outcome() == "late" || ended.outcome() == "cancelled";
    known.emplace_back(std::move(ended), std::move(record.body));
  }
  Log(options_->log, LogLevel::kInfo, absl::StrCat("round ", engine_->state().round, " goes on: ", known.size(), " of ", engine_->state().attempts.size(), " attempts are over"));
  for (Effect& effect : engine_->Resume(clock_->Now(), closed && !FEDWATT_PLANTED(closed_round_reopened))) effects_.push_back(std::move(effect));
  Drain();
  for (auto& [ended, body] : known) {
    if (auto open = open_.find(ended.attempt_id()); open != open_.end()) open->second.replayed = OpenAttempt::Replayed{ended, body};
  }
  std::vector<std::string> files;
  options_->disk->List(store_->uploads_directory(), &files);
  for (const std::string& file : files) {
    auto open = open_.find(Upload::NameIn(file));
    if (open != open_.end() && !open->second.replayed) open->second.upload->Resume(file);
  }
  // What counts first: the rest must not close a round that is still adding up.
  for (const bool accepted : {true, false}) {
    for (const auto& [ended, body] : known) {
      if ((ended.outcome() == "accepted") == accepted) Replay(ended, body);
    }
  }
  resuming_ = false;
  std::vector<std::string> lost;
  for (const auto& [id, attempt] : open_) {
    if (attempt.session.empty() && !attempt.replayed) lost.push_back(id);
  }
  for (const std::string& id : lost) Feed(AttemptFailed{id, Rejection::kDisconnected});
  Failpoint("round_resumed");
}

void Coordinator::Replay(const v1::EndedAttempt& ended, const FileRange& body) {
  auto open = open_.find(ended.attempt_id());
  if (open == open_.end() || finish_.has_value()) return;
  if (FEDWATT_PLANTED(files_not_recovered) && !ended.update_file().empty()) return;
  if (FEDWATT_PLANTED(refusals_not_recovered) && ended.outcome() == "rejected") return;
  OpenAttempt& attempt = open->second;
  absl::StatusOr<AttemptRecord> record = ParseAttemptLine(ended.line(), absl::StrCat(body.path, ", the record before offset ", body.offset));
  if (!record.ok()) return FailRun(record.status());
  Recollect(*record);
  attempt.record = *std::move(record);
  attempt.report_request = ended.report_request_id();
  if (ended.outcome() == "late" || ended.outcome() == "cancelled") return;  // ends with the round
  const std::optional<Energy> energy = AttemptEnergy(attempt.record).energy;
  if (ended.outcome() != "accepted") {
    return Feed(AttemptFailed{ended.attempt_id(), fedwatt::FromProto(ended.reason()).value_or(Rejection::kGarbage), energy, ended.too_much()});
  }
  attempt.replayed->update = ended.update_file().empty() ? body : FileRange{absl::StrCat(store_->uploads_directory(), "/", ended.update_file()), 0, ended.update_bytes()};
  absl::StatusOr<absl::Time> at = fedwatt::FromProto(ended.report_time());
  Feed(UpdateArrived{ended.attempt_id(), energy, TrainingOf(attempt.record), attempt.record.completed_work, at.ok() ? std::optional<absl::Time>(*at) : std::nullopt});
}

void Coordinator::WriteDown(const std::string& id, OpenAttempt& attempt, v1::EndedAttempt entry, EndedAttempt& ended) {
  Journal::Entry written;
  if (entry.outcome() == "accepted") {
    if (!attempt.container.empty()) {
      written.body = std::move(attempt.container);
      ended.spent_file = attempt.upload->path();
    } else {
      written.file = attempt.upload->path();
      entry.set_update_file(std::filesystem::path(written.file).filename().string());
    }
  }
  written.message = entry.SerializeAsString();
  written.durable = [this, id] { loop_->Post([this, id] { NoteDurable(id); }); };
  ended.durable = false;
  not_durable_.insert(id);
  journal_->Append(std::move(written));
}

void Coordinator::NoteDurable(const std::string& id) {
  not_durable_.erase(id);
  auto found = ended_.find(id);
  if (found == ended_.end()) return;
  EndedAttempt& ended = found->second;
  ended.durable = true;
  if (const std::string spent = std::exchange(ended.spent_file, ""); !spent.empty()) options_->disk->Remove(spent);
  if (std::optional<HeldReport> held = std::exchange(ended.held, std::nullopt)) {
    *held->response = ended.kept.verdict();
    held->done(absl::OkStatus());
    Failpoint("update_acknowledged");
  }
  // Who has watched the attempt since hears of its end.
  if (auto session = session_of_partition_.find(ended.kept.partition_index()); session != session_of_partition_.end()) AnswerWait(sessions_.at(session->second));
}

void Coordinator::NoteFullDisk(bool full) {
  Log(options_->log, full ? LogLevel::kError : LogLevel::kInfo, full ? "no space for the journal; reports are sent away until there is" : "there is space for the journal again");
  if (!full) return;
  for (const std::string& id : not_durable_) {
    if (std::optional<HeldReport> held = std::exchange(ended_.at(id).held, std::nullopt)) {
      if (FEDWATT_PLANTED(full_disk_acknowledges)) *held->response = ended_.at(id).kept.verdict();
      held->done(FEDWATT_PLANTED(full_disk_acknowledges) ? absl::OkStatus() : FullDiskError());
    }
  }
}

void Coordinator::RemoveUploads() const {
  std::vector<std::string> files;
  options_->disk->List(store_->uploads_directory(), &files);
  for (const std::string& file : files) {
    if (!open_.contains(Upload::NameIn(file))) options_->disk->Remove(absl::StrCat(store_->uploads_directory(), "/", file));
  }
}

}  // namespace fedwatt::internal
