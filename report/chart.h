// One line chart as SVG; private to the room.
#ifndef FEDWATT_REPORT_CHART_H_
#define FEDWATT_REPORT_CHART_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fedwatt::internal {

struct ChartPoint {
  double x = 0;
  double y = 0;
  std::string label;  // shown when the pointer rests on it
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;  // in order of x
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<ChartSeries> series;  // at most 4: as many colours as the page's style has
  std::optional<double> y_line;     // a horizontal line, such as a target
  std::string y_line_label;
  bool legend_on_top = false;  // for curves that fall
};

// The SVG element. A chart without points says so. Colours come from the page's classes `s0`..`s3`, `axis`, `grid`, `target`.
std::string RenderChart(const Chart& chart);

struct Bar {
  std::string label;
  std::optional<double> value;  // >= 0; unset: not measured, and said so
  std::string note;             // beside the bar, with unit and marks
  int colour = 0;               // class `b0`..`b3`
};
// Horizontal bars from a common zero, in the order given, as an SVG element; at most kMostBars, the rest are counted in a last line. Without
// bars it says so.
inline constexpr size_t kMostBars = 40;
std::string RenderBars(const std::string& title, const std::vector<Bar>& bars);

// `text` safe inside HTML and inside its quoted attributes.
std::string EscapeHtml(std::string_view text);

// Round steps (1, 2 or 5 times a power of ten) that cover [low, high] with about `count` ticks. `low` <= `high`, both finite.
std::vector<double> Ticks(double low, double high, int count);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_CHART_H_
