// Rate and speed of the entropy coder and of the two integer codecs, as JSON lines.
//
//   codec_speed_bench [repetitions] [file of float32]...
//
// Laplace vectors of 1.66 M values in 4 segments at several steps; then each file as one segment, if its size is not that of mlp_2nn (199,210 values
// in 6 segments). `entropy` is the zero-order entropy of the symbols, segment by segment; for `dithered` segments are the classes of ranks. Speeds
// are those of the fastest repetition; one core. decode_sparse ends in indices and values.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"

namespace fedwatt {
namespace {

template <typename Function>
double FastestSeconds(int repetitions, const Function& function) {
  double best = 1e9;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    function();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

double EntropyBits(absl::Span<const int64_t> counts, const SparseSymbols& symbols) {
  double bits = 0;
  size_t next = 0;
  int64_t end = 0;
  for (int64_t count : counts) {
    end += count;
    std::map<int32_t, int64_t> histogram;
    const size_t first = next;
    for (; next < symbols.indices.size() && symbols.indices[next] < end; ++next) ++histogram[symbols.symbols[next]];
    histogram[0] = count - static_cast<int64_t>(next - first);
    for (const auto& [symbol, n] : histogram) {
      if (n > 0) bits -= static_cast<double>(n) * std::log2(static_cast<double>(n) / static_cast<double>(count));
    }
  }
  return bits;
}

std::vector<float> Laplace(size_t count, uint64_t seed) {  // of variance 1
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    const double u = random.Uniform() - 0.5;
    value = static_cast<float>(std::copysign(std::log(1 - 2 * std::fabs(u)), u) * -std::sqrt(0.5));
  }
  return values;
}

void Measure(const std::string& source, const std::string& spec, const std::vector<float>& values, const std::vector<Segment>& segments,
             int repetitions) {
  const std::unique_ptr<Codec> codec = *MakeCodec(spec);
  const CodingContext context{segments, 7, 1};
  const std::string bytes = *codec->Encode(values, context);
  SparseValues sparse;
  std::vector<float> dense(values.size());
  const double encode = FastestSeconds(repetitions, [&] { FEDWATT_CHECK(codec->Encode(values, context).ok()); });
  const double decode = FastestSeconds(repetitions, [&] { FEDWATT_CHECK(codec->DecodeSparse(bytes, context, sparse).ok()); });
  const double whole = FastestSeconds(repetitions, [&] { FEDWATT_CHECK(codec->Decode(bytes, context, absl::MakeSpan(dense)).ok()); });

  // The symbols again, for their entropy.
  std::vector<int64_t> counts, rows;
  for (const Segment& segment : segments) {
    counts.push_back(segment.count());
    rows.push_back(segment.columns);
  }
  float step;
  std::copy_n(bytes.data(), sizeof(step), reinterpret_cast<char*>(&step));
  SparseSymbols symbols;
  std::string entropy = "null", over = "null";
  if (codec->name() == "ecsq" && DecodeSymbols(std::string_view(bytes).substr(4), counts, static_cast<int64_t>(values.size()), symbols, 0, rows).ok()) {
    const double bits = EntropyBits(counts, symbols);
    entropy = absl::StrCat(bits / static_cast<double>(values.size()));
    over = absl::StrCat(static_cast<double>(bytes.size()) * 8 / bits);
  }
  const double count = static_cast<double>(values.size());
  double error = 0, power = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(static_cast<double>(dense[i]) - values[i], 2);
    power += std::pow(static_cast<double>(values[i]), 2);
  }
  std::printf(
      "{\"source\": \"%s\", \"codec\": \"%s\", \"values\": %zu, \"nonzero\": %.5f, \"bytes\": %zu, \"bits_per_value\": %.5f, \"entropy\": %s, "
      "\"over_entropy\": %s, \"nmse\": %.4f, \"encode_gvalues_s\": %.3f, \"decode_sparse_gvalues_s\": %.3f, \"decode_sparse_ns_per_nonzero\": %.2f, "
      "\"decode_dense_gvalues_s\": %.3f}\n",
      source.c_str(), spec.c_str(), values.size(), static_cast<double>(sparse.values.size()) / count, bytes.size(),
      static_cast<double>(bytes.size()) * 8 / count, entropy.c_str(), over.c_str(), error / power, count / encode * 1e-9, count / decode * 1e-9,
      decode * 1e9 / static_cast<double>(std::max<size_t>(1, sparse.values.size())), count / whole * 1e-9);
  std::fflush(stdout);
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  using fedwatt::Segment;
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 20;
  std::vector<Segment> segments = {{1000, 1200}, {1000, 400}, {1, 1000}, {100, 590}};
  const std::vector<float> values = fedwatt::Laplace(1660000, 1);
  for (const char* step : {"1", "2", "3", "4", "4.4", "6", "8"}) {
    fedwatt::Measure("laplace", absl::StrCat("ecsq:step=", step), values, segments, repetitions);
  }
  for (const char* step : {"2", "5", "10", "19", "38", "76"}) {
    fedwatt::Measure("laplace", absl::StrCat("dithered:step=", step), values, segments, repetitions);
  }
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    std::vector<float> recorded(bytes.size() / sizeof(float));
    std::copy_n(bytes.data(), recorded.size() * sizeof(float), reinterpret_cast<char*>(recorded.data()));
    segments = {{1, static_cast<int64_t>(recorded.size())}};
    if (recorded.size() == 199210) segments = {{200, 784}, {1, 200}, {200, 200}, {1, 200}, {10, 200}, {1, 10}};
    const std::string source = std::string(argv[i]).substr(std::string(argv[i]).rfind('/') + 1);
    for (const char* spec : {"ecsq:multiple=3", "ecsq:multiple=6", "dithered:multiple=10", "dithered:multiple=20"}) {
      fedwatt::Measure(source, spec, recorded, segments, repetitions);
    }
  }
}
