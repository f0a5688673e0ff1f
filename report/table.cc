#include "fedwatt/report/table.h"

#include <unistd.h>

#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "format.h"

namespace fedwatt {
namespace {

constexpr char kRowFormat[] = "%6s  %12s  %8s  %8s  %8s  %8s  %7s  %13s  %8s";
constexpr char kBold[] = "\033[1m", kYellow[] = "\033[33m", kRed[] = "\033[31m", kReset[] = "\033[0m";

int64_t Failed(const RoundRecord& r) { return r.clients_rejected + r.clients_dropped; }

// A value of a key=value line; quoted when it has spaces.
std::string Value(const std::string& text) {
  return text.find_first_of(" \"=\n") == std::string::npos ? text : absl::StrFormat("\"%s\"", absl::CEscape(text));
}

}  // namespace

RoundTableOptions RoundTableOptionsFor(int fd) {
  RoundTableOptions options;
  options.terminal = isatty(fd) == 1;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  options.colour =
      options.terminal && (no_color == nullptr || *no_color == '\0') && term != nullptr && std::string_view(term) != "dumb";
  return options;
}

std::string EnergyText(const std::optional<Energy>& energy, EnergyTier tier, int64_t metered_clients, int64_t clients) {
  if (!energy) return "-";
  return absl::StrCat(IsEstimate(tier) ? "~" : "", internal::Significant(energy->joules()),
                      metered_clients < clients ? absl::StrCat(" (", metered_clients, "/", clients, ")") : "");
}

std::string SavingText(int64_t dense_bytes, int64_t payload_bytes) {
  if (dense_bytes <= 0 || payload_bytes <= 0) return "-";
  return absl::StrCat(internal::Fixed(static_cast<double>(dense_bytes) / static_cast<double>(payload_bytes), 2), "x");
}

std::string SavingPhrase(int64_t dense_bytes, int64_t payload_bytes) {
  if (dense_bytes <= 0 || payload_bytes <= 0) return "nothing sent";
  return payload_bytes > dense_bytes ? absl::StrCat(SavingText(payload_bytes, dense_bytes), " larger than float32")
                                     : absl::StrCat(SavingText(dense_bytes, payload_bytes), " smaller than float32");
}

std::string RoundTable::Header() const {
  if (!options_.terminal) return "";
  const std::string line =
      absl::StrFormat(kRowFormat, "round", "ok/late/fail", "loss", "accuracy", "MB up", "MB down", "saving", "joules", "seconds");
  return options_.colour ? absl::StrCat(kBold, line, kReset, "\n") : absl::StrCat(line, "\n");
}

std::string RoundTable::Row(const RoundRecord& r) const {
  const std::optional<double> accuracy = AccuracyOf(r);
  const std::string loss = internal::FixedOrDash(r.train_loss, 4), accuracy_text = internal::FixedOrDash(accuracy, 4);
  const std::string up = internal::Megabytes(r.uplink_payload_bytes), down = internal::Megabytes(r.downlink_payload_bytes);
  const std::string saving =
      SavingText(r.uplink_dense_bytes + r.downlink_dense_bytes, r.uplink_payload_bytes + r.downlink_payload_bytes);
  const std::string joules = EnergyText(r.client_energy, r.client_energy_tier, r.client_energy_clients, r.clients_completed);
  const std::string seconds = internal::Fixed(r.wall_seconds, 2);
  if (!options_.terminal) {
    std::string line = absl::StrCat("round=", r.round, " ok=", r.clients_completed, " late=", r.clients_late,
                                    " failed=", Failed(r), " loss=", loss, " accuracy=", accuracy_text, " mb_up=", up,
                                    " mb_down=", down, " saving=", saving, " joules=", Value(joules));
    absl::StrAppend(&line, " seconds=", seconds);
    if (!r.committed) absl::StrAppend(&line, " abandoned=", Value(r.reason));
    return line + "\n";
  }
  const std::string clients = absl::StrCat(r.clients_completed, "/", r.clients_late, "/", Failed(r));
  std::string line =
      absl::StrFormat(kRowFormat, absl::StrCat(r.round), clients, loss, accuracy_text, up, down, saving, joules, seconds);
  if (!r.committed) absl::StrAppend(&line, "  abandoned: ", absl::CEscape(r.reason));
  if (!options_.colour) return line + "\n";
  const char* colour = !r.committed ? kRed : r.clients_late + Failed(r) > 0 ? kYellow : "";
  return *colour == '\0' ? line + "\n" : absl::StrCat(colour, line, kReset, "\n");
}

std::string RoundTable::Legend() const {
  if (!options_.terminal) return "";
  return "saving: float32 bytes over bytes sent; joules: the clients', ~ estimated, (2/3) only 2 of 3 clients metered, - not "
         "measured\n";
}

}  // namespace fedwatt
