#include "transfer_watch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace fedwatt::internal {

absl::StatusOr<TransferWatch::Id> TransferWatch::Begin(std::string_view caller, std::function<void()> cut) {
  std::lock_guard lock(mutex_);
  const auto of_caller = by_caller_.find(caller);
  const int64_t own = of_caller != by_caller_.end() ? of_caller->second : 0;
  if (own >= limits_.max_of_one_caller || static_cast<int64_t>(transfers_.size()) >= limits_.max_transfers) {
    ++refused_count_;
    return absl::ResourceExhaustedError(own >= limits_.max_of_one_caller
                                            ? absl::StrCat("busy: ", own, " transfers of this client are under way, at most ", limits_.max_of_one_caller, "; try again later")
                                            : absl::StrCat("busy: ", transfers_.size(), " transfers are under way, at most ", limits_.max_transfers, "; try again later"));
  }
  ++by_caller_[std::string(caller)];
  transfers_[next_id_] = {std::string(caller), std::move(cut), clock_->Monotonic() + limits_.grace};
  return next_id_++;
}

void TransferWatch::Moved(Id id, int64_t bytes) {
  std::lock_guard lock(mutex_);
  const auto at = transfers_.find(id);
  if (at == transfers_.end() || limits_.min_bytes_per_second <= 0) return;
  const absl::Duration earned = absl::Seconds(static_cast<double>(bytes) / limits_.min_bytes_per_second);
  at->second.overdue_at = std::min(at->second.overdue_at + earned, clock_->Monotonic() + limits_.grace);
}

void TransferWatch::End(Id id) {
  std::lock_guard lock(mutex_);
  const auto at = transfers_.find(id);
  if (at == transfers_.end()) return;
  const auto of_caller = by_caller_.find(at->second.caller);
  if (--of_caller->second == 0) by_caller_.erase(of_caller);
  transfers_.erase(at);
}

int64_t TransferWatch::Sweep() {
  std::lock_guard lock(mutex_);
  if (limits_.min_bytes_per_second <= 0) return 0;
  const absl::Duration now = clock_->Monotonic();
  std::vector<std::function<void()>> cuts;
  for (auto& [id, transfer] : transfers_) {
    if (transfer.overdue_at <= now && transfer.cut != nullptr) cuts.push_back(std::exchange(transfer.cut, nullptr));
  }
  for (const std::function<void()>& cut : cuts) cut();
  cut_count_ += static_cast<int64_t>(cuts.size());
  return static_cast<int64_t>(cuts.size());
}

int64_t TransferWatch::cut_count() const {
  std::lock_guard lock(mutex_);
  return cut_count_;
}

int64_t TransferWatch::refused_count() const {
  std::lock_guard lock(mutex_);
  return refused_count_;
}

}  // namespace fedwatt::internal
