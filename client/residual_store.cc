#include "residual_store.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kMagic = "FWRESID1";

absl::Status Remove(const std::string& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  return error ? ErrnoStatus(error.value(), absl::StrCat("removing ", path)) : absl::OkStatus();
}

void PutText(const std::string& text, ByteWriter& writer) {
  writer.Put<uint32_t>(static_cast<uint32_t>(text.size()));
  writer.PutBytes(text);
}

absl::StatusOr<std::string> GetText(ByteReader& reader) {
  FEDWATT_ASSIGN_OR_RETURN(uint32_t size, reader.Get<uint32_t>("length"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view text, reader.GetBytes(size, "text"));
  return std::string(text);
}

}  // namespace

absl::StatusOr<ResidualStore::Entry> ResidualStore::Read(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path));
  if (bytes.size() < 4) return absl::DataLossError(absl::StrCat(path, ": shorter than its checksum"));
  const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - 4);
  uint32_t crc;
  std::memcpy(&crc, bytes.data() + body.size(), 4);
  if (Crc32c(body) != crc) return absl::DataLossError(absl::StrCat(path, ": wrong checksum"));
  ByteReader reader(body, path);
  FEDWATT_ASSIGN_OR_RETURN(std::string_view magic, reader.GetBytes(kMagic.size(), "magic"));
  if (magic != kMagic) return absl::DataLossError(absl::StrCat(path, ": wrong magic"));
  Entry entry;
  FEDWATT_ASSIGN_OR_RETURN(entry.attempt_id, GetText(reader));
  FEDWATT_ASSIGN_OR_RETURN(entry.run_id, GetText(reader));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view layout, reader.GetBytes(32, "layout"));
  FEDWATT_ASSIGN_OR_RETURN(entry.layout, Digest::FromRaw(layout));
  FEDWATT_ASSIGN_OR_RETURN(entry.residual.round, reader.Get<int64_t>("round"));
  FEDWATT_ASSIGN_OR_RETURN(std::string_view values, reader.GetBytes(reader.remaining() / sizeof(float) * sizeof(float), "values"));
  entry.residual.values.resize(values.size() / sizeof(float));
  std::memcpy(entry.residual.values.data(), values.data(), values.size());
  return entry;
}

absl::Status ResidualStore::Write(const std::string& path, const Entry& entry) {
  ByteWriter writer;
  writer.PutBytes(kMagic);
  PutText(entry.attempt_id, writer);
  PutText(entry.run_id, writer);
  writer.PutBytes(entry.layout.Raw());
  writer.Put<int64_t>(entry.residual.round);
  writer.PutBytes({reinterpret_cast<const char*>(entry.residual.values.data()), entry.residual.values.size() * sizeof(float)});
  writer.Put<uint32_t>(Crc32c(writer.str()));
  return WriteFileAtomically(path, std::move(writer).str(), 0600);
}

void ResidualStore::Load() {
  if (std::exchange(loaded_, true) || path_.empty()) return;
  // A damaged file is as good as none: feedback is lost, nothing else.
  if (absl::StatusOr<Entry> kept = Read(path_); kept.ok()) kept_ = *std::move(kept);
  if (absl::StatusOr<Entry> staged = Read(path_ + ".staged"); staged.ok()) staged_ = *std::move(staged);
}

const Residual* ResidualStore::Find(const std::string& run_id, const Digest& layout) {
  Load();
  if (kept_.has_value() && (kept_->run_id != run_id || kept_->layout != layout)) kept_.reset();
  return kept_.has_value() ? &kept_->residual : nullptr;
}

absl::Status ResidualStore::Stage(const std::string& attempt_id, const std::string& run_id, const Digest& layout, Residual residual) {
  Load();
  staged_ = Entry{attempt_id, run_id, layout, std::move(residual)};
  if (path_.empty()) return absl::OkStatus();
  absl::Status written = Write(path_ + ".staged", *staged_);
  if (!written.ok()) Remove(path_ + ".staged").IgnoreError();  // an older one would be taken for this
  return written;
}

std::optional<std::string> ResidualStore::staged_attempt() {
  Load();
  if (!staged_.has_value()) return std::nullopt;
  return staged_->attempt_id;
}

absl::Status ResidualStore::Settle(Verdict verdict) {
  Load();
  if (!staged_.has_value()) return absl::OkStatus();
  Entry staged = *std::exchange(staged_, std::nullopt);
  if (verdict == Verdict::kCounted) kept_ = std::move(staged);
  if (verdict == Verdict::kUnknown) kept_.reset();
  if (path_.empty()) return absl::OkStatus();
  switch (verdict) {
    case Verdict::kCounted: {
      // One rename, which a crash either finds done or not.
      std::error_code error;
      std::filesystem::rename(path_ + ".staged", path_, error);
      if (!error) return absl::OkStatus();
      Remove(path_).IgnoreError();  // it has been sent
      return ErrnoStatus(error.value(), absl::StrCat("renaming ", path_, ".staged"));
    }
    case Verdict::kUnknown: FEDWATT_RETURN_IF_ERROR(Remove(path_)); [[fallthrough]];
    case Verdict::kNotCounted: return Remove(path_ + ".staged");
  }
  return absl::OkStatus();
}

}  // namespace fedwatt::internal
