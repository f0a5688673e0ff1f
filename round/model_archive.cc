#include "fedwatt/round/model_archive.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {

absl::StatusOr<ModelArchive> ModelArchive::Open(const std::string& run_directory, std::optional<double> best_accuracy, Disk& disk) {
  ModelArchive archive(absl::StrCat(run_directory, "/model"), disk);
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(archive.directory_, 0755, disk));
  std::vector<int64_t> rounds;
  std::vector<std::string> names;
  if (const int listed = disk.List(archive.directory_, &names); listed < 0) return ErrnoStatus(-listed, absl::StrCat("reading ", archive.directory_));
  for (const std::string& name : names) {
    absl::string_view middle = name;
    int64_t round;
    if (absl::ConsumePrefix(&middle, "global-") && absl::ConsumeSuffix(&middle, ".fwt") && absl::SimpleAtoi(middle, &round)) {
      rounds.push_back(round);
    }
  }
  std::sort(rounds.begin(), rounds.end());
  if (!rounds.empty()) {
    archive.last_round_ = rounds.back();
    // Two are kept at most: when there are two, the older one was kept because it was the best.
    archive.best_round_ = rounds.front();
    archive.best_accuracy_ = best_accuracy;
  }
  return archive;
}

std::string ModelArchive::PathOf(int64_t round) const { return absl::StrCat(directory_, "/global-", round, ".fwt"); }

std::string ModelArchive::last_path() const { return last_round_ < 0 ? "" : PathOf(last_round_); }

absl::Status ModelArchive::Save(int64_t round, std::string_view container, std::optional<double> accuracy) {
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(PathOf(round), container, 0644, *disk_));
  const int64_t previous_last = last_round_, previous_best = best_round_;
  last_round_ = round;
  if (accuracy.has_value() && (!best_accuracy_.has_value() || *accuracy > *best_accuracy_)) {
    best_accuracy_ = accuracy;
    best_round_ = round;
  }
  for (int64_t old : {previous_last, previous_best}) {
    if (old < 0 || old == last_round_ || old == best_round_) continue;
    disk_->Remove(PathOf(old));  // a leftover costs disk, not the run
  }
  return absl::OkStatus();
}

}  // namespace fedwatt
