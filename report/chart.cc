#include "chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace fedwatt::internal {
namespace {

constexpr double kWidth = 560, kHeight = 300;
constexpr double kLeft = 58, kRight = 14, kTop = 14, kBottom = 46;
constexpr size_t kMarkedPoints = 120;  // more would merge into a band

std::string Coordinate(double value) { return absl::StrFormat("%.1f", value); }

// As many digits as the step needs.
std::string TickText(double value, double step) {
  const int digits = std::clamp(static_cast<int>(-std::floor(std::log10(step) + 1e-9)), 0, 9);
  return absl::StrFormat("%.*f", digits, value == 0 ? 0.0 : value);
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<double> Ticks(double low, double high, int count) {
  if (!(high > low)) {
    const double margin = low == 0 ? 1 : std::abs(low) / 2;
    low -= margin;
    high += margin;
  }
  const double rough = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  std::vector<double> ticks;
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string RenderChart(const Chart& chart) {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low, y_low = x_low, y_high = -x_low;
  for (const ChartSeries& series : chart.series) {
    for (const ChartPoint& point : series.points) {
      x_low = std::min(x_low, point.x);
      x_high = std::max(x_high, point.x);
      y_low = std::min(y_low, point.y);
      y_high = std::max(y_high, point.y);
    }
  }
  std::string out =
      absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth, kHeight, EscapeHtml(chart.title));
  if (!std::isfinite(x_low)) {
    absl::StrAppendFormat(&out,
                          "<text class=\"axis\" x=\"%g\" y=\"%g\" text-anchor=\"middle\">not measured in this run</text></svg>",
                          kWidth / 2, kHeight / 2);
    return out;
  }
  if (chart.y_line) {
    y_low = std::min(y_low, *chart.y_line);
    y_high = std::max(y_high, *chart.y_line);
  }
  const std::vector<double> x_ticks = Ticks(std::min(0.0, x_low), x_high, 6), y_ticks = Ticks(y_low, y_high, 5);
  const auto x_of = [&](double x) {
    return kLeft + (x - x_ticks.front()) / (x_ticks.back() - x_ticks.front()) * (kWidth - kLeft - kRight);
  };
  const auto y_of = [&](double y) {
    return kHeight - kBottom - (y - y_ticks.front()) / (y_ticks.back() - y_ticks.front()) * (kHeight - kTop - kBottom);
  };

  for (double tick : y_ticks) {
    const std::string y = Coordinate(y_of(tick));
    absl::StrAppendFormat(&out, "<line class=\"grid\" x1=\"%g\" x2=\"%g\" y1=\"%s\" y2=\"%s\"/>", kLeft, kWidth - kRight, y, y);
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%g\" y=\"%s\" dy=\".35em\" text-anchor=\"end\">%s</text>", kLeft - 7, y,
                          TickText(tick, y_ticks[1] - y_ticks[0]));
  }
  for (double tick : x_ticks) {
    const std::string x = Coordinate(x_of(tick));
    absl::StrAppendFormat(&out, "<line class=\"grid\" x1=\"%s\" x2=\"%s\" y1=\"%g\" y2=\"%g\"/>", x, x, kHeight - kBottom,
                          kHeight - kBottom + 4);
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%s\" y=\"%g\" text-anchor=\"middle\">%s</text>", x,
                          kHeight - kBottom + 18, TickText(tick, x_ticks[1] - x_ticks[0]));
  }
  absl::StrAppendFormat(&out, "<text class=\"axis name\" x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>",
                        (kLeft + kWidth - kRight) / 2, kHeight - 8, EscapeHtml(chart.x_label));
  absl::StrAppendFormat(&out,
                        "<text class=\"axis name\" transform=\"translate(13 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>",
                        (kTop + kHeight - kBottom) / 2, EscapeHtml(chart.y_label));
  if (chart.y_line) {
    const std::string y = Coordinate(y_of(*chart.y_line));
    absl::StrAppendFormat(&out, "<line class=\"target\" x1=\"%g\" x2=\"%g\" y1=\"%s\" y2=\"%s\"/>", kLeft, kWidth - kRight, y, y);
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%g\" y=\"%s\" dy=\"-.4em\">%s</text>", kLeft + 6, y,
                          EscapeHtml(chart.y_line_label));
  }

  size_t colour = 0;
  for (const ChartSeries& series : chart.series) {
    if (series.points.empty()) continue;
    std::string path;
    for (const ChartPoint& point : series.points) {
      absl::StrAppend(&path, path.empty() ? "M" : "L", Coordinate(x_of(point.x)), " ", Coordinate(y_of(point.y)));
    }
    absl::StrAppendFormat(&out, "<path class=\"s%d\" d=\"%s\"/>", colour, path);
    for (size_t i = 0; i < series.points.size(); ++i) {
      const ChartPoint& point = series.points[i];
      // Long runs: only the end is marked, but every point can still be pointed at.
      const bool marked = series.points.size() <= kMarkedPoints || i + 1 == series.points.size();
      absl::StrAppendFormat(&out, "<circle class=\"%s%d\" cx=\"%s\" cy=\"%s\" r=\"3\"><title>%s</title></circle>",
                            marked ? "s" : "hidden s", colour, Coordinate(x_of(point.x)), Coordinate(y_of(point.y)),
                            EscapeHtml(point.label));
    }
    ++colour;
  }
  if (colour > 1) {
    double y = chart.legend_on_top ? kTop + 12 : kHeight - kBottom - 16.0 * static_cast<double>(colour);
    colour = 0;
    for (const ChartSeries& series : chart.series) {
      if (series.points.empty()) continue;
      absl::StrAppendFormat(
          &out,
          "<circle class=\"s%d\" cx=\"%g\" cy=\"%g\" r=\"4\"/><text class=\"axis\" x=\"%g\" y=\"%g\" dy=\".35em\">%s</text>",
          colour, kWidth - 190, y, kWidth - 180, y, EscapeHtml(series.name));
      y += 16;
      ++colour;
    }
  }
  out += "</svg>";
  return out;
}

std::string RenderBars(const std::string& title, const std::vector<Bar>& bars) {
  constexpr double kRow = 22, kLabel = 130, kNote = 150;
  const size_t shown = std::min(bars.size(), kMostBars);
  const double height = kRow * static_cast<double>(std::max<size_t>(shown + (shown < bars.size()), 1)) + 8;
  std::string out =
      absl::StrFormat("<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">", kWidth, height, EscapeHtml(title));
  double most = 0;
  for (size_t i = 0; i < shown; ++i) most = std::max(most, bars[i].value.value_or(0));
  double y = 4;
  for (size_t i = 0; i < shown; ++i, y += kRow) {
    const double width = most > 0 ? bars[i].value.value_or(0) / most * (kWidth - kLabel - kNote) : 0;
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%g\" y=\"%g\" dy=\".35em\" text-anchor=\"end\">%s</text>", kLabel - 8, y + kRow / 2,
                          EscapeHtml(bars[i].label));
    if (bars[i].value) {
      absl::StrAppendFormat(&out, "<rect class=\"b%d\" x=\"%g\" y=\"%s\" width=\"%s\" height=\"%g\"/>", bars[i].colour, kLabel, Coordinate(y + 3),
                            Coordinate(std::max(width, 1.0)), kRow - 6);
    }
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%s\" y=\"%g\" dy=\".35em\">%s</text>", Coordinate(kLabel + width + 8), y + kRow / 2,
                          EscapeHtml(bars[i].value ? bars[i].note : bars[i].note + " not measured"));
  }
  if (shown < bars.size()) {
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%g\" y=\"%g\" dy=\".35em\">and %d more</text>", kLabel, y + kRow / 2, bars.size() - shown);
  } else if (bars.empty()) {
    absl::StrAppendFormat(&out, "<text class=\"axis\" x=\"%g\" y=\"%g\" dy=\".35em\" text-anchor=\"middle\">not measured in this run</text>", kWidth / 2,
                          y + kRow / 2);
  }
  return out + "</svg>";
}

}  // namespace fedwatt::internal
