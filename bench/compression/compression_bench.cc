// compression_bench: rate, distortion and speed of pipelines, a JSON line for each on each vector, and one first about the machine.
//
//   compression_bench [--repetitions=N] [--clients=N] [--laplace=N] [--symbols=FOLDER] [--pipeline=SPEC]... [FOLDER]...
//
// Vectors: N values (1,660,000; 0 for none) drawn from a Laplace distribution with a deviation of 0.01, then of each FOLDER that record_updates
// wrote the updates of the first N (1) partitions of each round. Without --pipeline: the list below, then every registered stage that it does not
// name. A pipeline that this build does not have is a line with "skipped" and the reason.
//
// bits_per_value counts the payload. nmse is sum (decoded - x)^2 / sum x^2. Speeds are in 10^9 values of the whole vector a second of the thread's
// processor time, which others on the machine disturb less than they do the clock's, each the median of N (15) repetitions, or of as many, at least 3,
// as half a second holds; spread is the distance of the quartiles over the median. One thread.
//   encode, decode  Pipeline::Encode and Decode: whole vectors, or indices and values where the pipeline is sparse
//   accumulate      decoding and adding to weighted_mean's fixed point: from the bytes where the pipeline can, else Decode and Accumulate
//   fold            FoldUpdate: the container's checksum, the update's checks, accumulate
// *_of_stream is that speed over the one of sums[i] += constant on as many int64, measured beside it: a dense fold cannot be faster.
//
// For `ecsq` alone: the zero-order entropy of its symbols, segment by segment, and the size of these symbols by zstd when written as one byte each,
// clamped to [-128, 127]. With --symbols those bytes are kept for other compressors.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/pipeline.h"
#include "fedwatt/model/container.h"
#include "fedwatt/round/global_model.h"
#include "nlohmann/json.hpp"
#include "streaming.h"
#include "zstd.h"

namespace fedwatt {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kPipelines[] = {
    "float32",
    "bfloat16",
    "int8",
    "int8,zstd",
    "int4",
    "int2",
    "ternary",
    "ternary:clip=2.5",
    "sign",
    "ecsq:rate=4",
    "ecsq:rate=2",
    "ecsq:rate=1",
    "ecsq:rate=0.5",
    "ecsq:rate=0.2",
    "ecsq:rate=0.1",
    "ecsq:multiple=3",
    "ecsq:multiple=6",
    "dithered:multiple=1",
    "dithered:multiple=3",
    "dithered:multiple=10",
    "dithered:multiple=20",
    "dct,ecsq:rate=0.2",
    "dct,dithered:multiple=10",
    "rotate,int4",
    "rotate,int2",
    "rotate,sign:scale=unbiased",
    "top_k:fraction=0.1,float32",
    "top_k:fraction=0.01,float32",
    "top_k:fraction=0.01,int8",
    "top_k:fraction=0.01,sign:block=0",
    "threshold:multiple=3,int8",
    "random_k:fraction=0.1,float32",
    "random_k:fraction=0.1:scale=none,int8",
    "low_rank:rank=4,float32",
    "low_rank:rank=4,bfloat16",
};

constexpr int64_t kExampleCount = 600;
constexpr uint64_t kSeed = 7;

struct Vector {
  std::string source;
  ParameterLayout layout;
  int64_t round = 1;
  int64_t partition = 0;
  std::vector<float> values;
};

struct Options {
  int64_t repetitions = 15;
  int64_t clients = 1;
  int64_t laplace = 1660000;
  std::string symbols;
  std::vector<std::string> pipelines;
  std::vector<std::string> folders;
};

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&argument, "--repetitions=")) {
      good = absl::SimpleAtoi(argument, &options.repetitions) && options.repetitions >= 1;
    } else if (absl::ConsumePrefix(&argument, "--clients=")) {
      good = absl::SimpleAtoi(argument, &options.clients) && options.clients >= 1;
    } else if (absl::ConsumePrefix(&argument, "--laplace=")) {
      good = absl::SimpleAtoi(argument, &options.laplace) && (options.laplace == 0 || (options.laplace >= 1000 && options.laplace < (1 << 30)));
    } else if (absl::ConsumePrefix(&argument, "--symbols=")) {
      options.symbols = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--pipeline=")) {
      options.pipelines.emplace_back(argument);
    } else {
      good = !absl::ConsumePrefix(&argument, "-");
      options.folders.emplace_back(argument);
    }
    if (!good) return absl::InvalidArgumentError(absl::StrCat("not understood: ", argv[i], "; the top of compression_bench.cc tells"));
  }
  return options;
}

// The default list, and whatever is registered and not in it.
std::vector<std::string> DefaultPipelines() {
  std::vector<std::string> specs(std::begin(kPipelines), std::end(kPipelines));
  std::set<std::string> named;
  for (const std::string& spec : specs) {
    for (absl::string_view stage : absl::StrSplit(spec, ',')) named.emplace(stage.substr(0, stage.find(':')));
  }
  for (const std::string& name : Codecs().Names()) {
    if (!named.contains(name)) specs.push_back(name);
  }
  for (const std::string& name : Transforms().Names()) {
    if (!named.contains(name)) specs.push_back(name + ",float32");
  }
  for (const std::string& name : Packers().Names()) {
    if (!named.contains(name)) specs.push_back("int8," + name);
  }
  return specs;
}

absl::StatusOr<Vector> MakeLaplace(int64_t count) {
  constexpr double kDeviation = 0.01;  // as an update's, so that no limit refuses a value
  Vector vector;
  vector.source = "laplace";
  const int64_t columns = count / 1000;
  std::vector<LayoutEntry> entries = {{"matrix", {1000, columns}}};
  if (count % 1000 > 0) entries.push_back({"rest", {count % 1000}});
  FEDWATT_ASSIGN_OR_RETURN(vector.layout, ParameterLayout::Create(std::move(entries)));
  Random random(1);
  vector.values.resize(static_cast<size_t>(count));
  for (float& value : vector.values) {
    const double u = random.Uniform() - 0.5;
    value = static_cast<float>(std::copysign(std::log(1 - 2 * std::fabs(u)), u) * -std::sqrt(0.5) * kDeviation);
  }
  return vector;
}

absl::StatusOr<std::vector<Vector>> ReadRecorded(const std::string& folder, int64_t clients) {
  FEDWATT_ASSIGN_OR_RETURN(std::string index, ReadFile(absl::StrCat(folder, "/updates.jsonl")));
  std::vector<Vector> vectors;
  std::map<int64_t, int64_t> taken;  // of each round
  for (absl::string_view text : absl::StrSplit(index, '\n', absl::SkipEmpty())) {
    const Json line = Json::parse(text.begin(), text.end());  // a file of our own: damage may end the program
    Vector vector;
    vector.round = line.at("round").get<int64_t>();
    vector.partition = line.at("partition").get<int64_t>();
    if (taken[vector.round]++ >= clients) continue;
    vector.source = absl::StrCat("round ", vector.round, " partition ", vector.partition);
    std::vector<LayoutEntry> entries;
    for (const Json& segment : line.at("segments")) {
      LayoutEntry entry;
      entry.name = segment.at("name").get<std::string>();
      entry.shape = {segment.at("rows").get<int64_t>(), segment.at("columns").get<int64_t>()};
      if (segment.at("kind") == "averaged_buffer") entry.kind = EntryKind::kAveragedBuffer;
      entries.push_back(std::move(entry));
    }
    FEDWATT_ASSIGN_OR_RETURN(vector.layout, ParameterLayout::Create(std::move(entries)));
    FEDWATT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(absl::StrCat(folder, "/", line.at("file").get<std::string>())));
    if (bytes.size() != static_cast<size_t>(vector.layout.value_count()) * sizeof(float)) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, ": an update has ", bytes.size(), " bytes, its segments ", vector.layout.value_count(), " values"));
    }
    vector.values.resize(bytes.size() / sizeof(float));
    std::memcpy(vector.values.data(), bytes.data(), bytes.size());
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

struct Timing {
  double median = 0;  // seconds
  double spread = 0;  // distance of the quartiles over the median
};

double ThreadSeconds() {
  timespec time;
  FEDWATT_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename Function>
absl::StatusOr<Timing> Time(int64_t repetitions, const Function& function) {
  FEDWATT_RETURN_IF_ERROR(function());  // warm caches and grown buffers, as in a coordinator that folds all day
  std::vector<double> seconds;
  double sum = 0;
  while (static_cast<int64_t>(seconds.size()) < repetitions && (seconds.size() < 3 || sum < 0.5)) {
    const double start = ThreadSeconds();
    FEDWATT_RETURN_IF_ERROR(function());
    seconds.push_back(ThreadSeconds() - start);
    sum += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  const size_t n = seconds.size();
  const double median = (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
  return Timing{median, (seconds[(3 * (n - 1) + 2) / 4] - seconds[(n - 1) / 4]) / median};
}

// `symbols` are those of a vector in layout order. Adds what lossless coders make of them.
absl::Status MeasureSymbols(const Vector& vector, absl::Span<const int32_t> symbols, size_t coded_bytes, const std::string& file, Json& line) {
  double bits = 0;
  Json by_segment = Json::array();
  std::string bytes;
  int64_t clamped = 0, nonzero = 0;
  const std::vector<LayoutEntry>& entries = vector.layout.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].kind != EntryKind::kParameter) continue;
    const int64_t count = entries[i].element_count();
    std::map<int32_t, int64_t> histogram;
    for (int64_t j = vector.layout.offset(i); j < vector.layout.offset(i) + count; ++j) {
      const int32_t symbol = symbols[static_cast<size_t>(j)];
      ++histogram[symbol];
      nonzero += symbol != 0;
      const int32_t byte = std::clamp(symbol, -128, 127);
      clamped += byte != symbol;
      bytes.push_back(static_cast<char>(byte));
    }
    double segment_bits = 0;
    for (const auto& [symbol, n] : histogram) {
      segment_bits -= static_cast<double>(n) * std::log2(static_cast<double>(n) / static_cast<double>(count));
    }
    by_segment.push_back({{"name", entries[i].name}, {"values", count}, {"bits_per_value", segment_bits / static_cast<double>(count)}});
    bits += segment_bits;
  }
  line["nonzero_fraction"] = static_cast<double>(nonzero) / static_cast<double>(bytes.size());
  line["entropy_bits_per_value"] = bits / static_cast<double>(bytes.size());
  line["entropy_by_segment"] = std::move(by_segment);
  line["coded_bytes"] = coded_bytes;
  line["coded_over_entropy"] = bits > 0 ? Json(static_cast<double>(coded_bytes) * 8 / bits) : Json();
  line["symbols_clamped"] = clamped;
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  for (int level : {1, 19}) {
    const size_t size = ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), level);
    if (ZSTD_isError(size)) return absl::InternalError(absl::StrCat("zstd: ", ZSTD_getErrorName(size)));
    line[absl::StrCat("zstd_", level, "_bytes")] = size;
  }
  if (file.empty()) return absl::OkStatus();
  line["symbols_file"] = file;
  return WriteFileAtomically(file, bytes);
}

struct Machine {
  AccumulatorFactory make_accumulator;
  std::vector<int64_t> sums;  // for the streaming limit
};

absl::Status Measure(const Vector& vector, const Pipeline& pipeline, const Options& options, const std::string& symbols_file, Machine& machine,
                     Json& line) {
  const size_t count = vector.values.size();
  const double giga_values = static_cast<double>(count) * 1e-9;
  const uint64_t seed = EncodingSeed(kSeed, vector.round, vector.partition);
  FEDWATT_ASSIGN_OR_RETURN(const std::string payload, pipeline.Encode(vector.layout, vector.values, seed, vector.round));
  std::vector<float> decoded(count);
  FEDWATT_RETURN_IF_ERROR(pipeline.DecodeDense(payload, vector.layout, seed, vector.round, absl::MakeSpan(decoded)));
  double error = 0, power = 0;
  for (size_t i = 0; i < count; ++i) {
    error += std::pow(static_cast<double>(decoded[i]) - vector.values[i], 2);
    power += std::pow(static_cast<double>(vector.values[i]), 2);
  }
  line["values"] = count;
  line["payload_bytes"] = payload.size();
  line["bits_per_value"] = static_cast<double>(payload.size()) * 8 / static_cast<double>(count);
  line["nmse"] = error / power;
  line["sparse"] = pipeline.sparse();

  FEDWATT_ASSIGN_OR_RETURN(const Timing encode,
                           Time(options.repetitions, [&] { return pipeline.Encode(vector.layout, vector.values, seed, vector.round).status(); }));
  DecodedValues values;
  const auto decode_once = [&] { return pipeline.Decode(payload, vector.layout, seed, vector.round, values); };
  FEDWATT_ASSIGN_OR_RETURN(const Timing decode, Time(options.repetitions, decode_once));

  // What a coordinator does with it, by itself and whole.
  AccumulatorOptions accumulator_options;
  accumulator_options.layout = vector.layout;
  accumulator_options.max_abs = UpdateLimits().max_abs;
  // As of 10 clients, and room for the repetitions.
  accumulator_options.max_total_weight = std::max(10 * UpdateLimits().max_example_count, 2 * (options.repetitions + 1) * kExampleCount);
  FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<Accumulator> accumulator, machine.make_accumulator(accumulator_options));
  FEDWATT_ASSIGN_OR_RETURN(const Timing accumulate, Time(options.repetitions, [&]() -> absl::Status {
                             const auto blocks = [&](BlockVisitor visit) {
                               return pipeline.VisitBlocks(payload, vector.layout, seed, vector.round, visit);
                             };
                             if (accumulator->AccumulateBlocks(blocks, kExampleCount, accumulator_options.max_abs)) return absl::OkStatus();
                             FEDWATT_RETURN_IF_ERROR(decode_once());
                             ClientUpdate update;
                             update.example_count = kExampleCount;
                             update.is_sparse = values.is_sparse;
                             update.delta = values.is_sparse ? values.sparse.values : values.dense;
                             if (values.is_sparse) update.indices = values.sparse.indices;
                             return accumulator->Accumulate(update);
                           }));
  Plan plan;
  plan.layout_digest = vector.layout.digest();
  plan.uplink_codec = pipeline.spec();
  plan.seed = kSeed;
  ContainerHeader header;
  header.kind = ContainerKind::kUpdate;
  header.codec = pipeline.spec();
  header.layout_digest = plan.layout_digest;
  const std::string container = WriteContainer(header, payload);
  FoldScratch scratch;
  FEDWATT_ASSIGN_OR_RETURN(const Timing fold, Time(options.repetitions, [&] {
                             return FoldUpdate(plan, vector.layout, container, kExampleCount, vector.round, vector.partition, *accumulator, scratch);
                           }));
  machine.sums.assign(count, 0);
  FEDWATT_ASSIGN_OR_RETURN(const Timing stream, Time(options.repetitions, [&] {
                             AddToAll(machine.sums.data(), count, 3);
                             return absl::OkStatus();
                           }));
  const std::pair<const char*, Timing> timings[] = {
      {"encode", encode}, {"decode", decode}, {"accumulate", accumulate}, {"fold", fold}, {"stream", stream}};
  for (const auto& [name, timing] : timings) {
    line[absl::StrCat(name, "_gvalues_s")] = giga_values / timing.median;
    line[absl::StrCat(name, "_spread")] = timing.spread;
  }
  line["accumulate_of_stream"] = stream.median / accumulate.median;
  line["fold_of_stream"] = stream.median / fold.median;

  if (pipeline.stage_names() != std::vector<std::string>{"ecsq"}) return absl::OkStatus();
  // Buffers come first, then the step.
  int64_t buffer_bytes = 0;
  for (const LayoutEntry& entry : vector.layout.entries()) {
    if (entry.kind == EntryKind::kAveragedBuffer) buffer_bytes += entry.element_count() * static_cast<int64_t>(sizeof(float));
  }
  float step;
  std::memcpy(&step, payload.data() + buffer_bytes, sizeof(step));
  std::vector<int32_t> symbols(count);
  for (size_t i = 0; i < count && step > 0; ++i) symbols[i] = static_cast<int32_t>(std::lrint(decoded[i] / static_cast<double>(step)));
  line["step"] = step;
  return MeasureSymbols(vector, symbols, payload.size() - static_cast<size_t>(buffer_bytes), symbols_file, line);
}

absl::Status Run(int argc, char** argv) {
  FEDWATT_ASSIGN_OR_RETURN(Options options, ParseOptions(argc, argv));
  std::vector<Vector> vectors;
  if (options.laplace > 0) {
    FEDWATT_ASSIGN_OR_RETURN(vectors.emplace_back(), MakeLaplace(options.laplace));
  }
  for (const std::string& folder : options.folders) {
    FEDWATT_ASSIGN_OR_RETURN(std::vector<Vector> recorded, ReadRecorded(folder, options.clients));
    std::move(recorded.begin(), recorded.end(), std::back_inserter(vectors));
  }
  if (!options.symbols.empty()) FEDWATT_RETURN_IF_ERROR(MakeDirectories(options.symbols));
  Machine machine;
  FEDWATT_ASSIGN_OR_RETURN(machine.make_accumulator, Accumulators().Find("weighted_mean"));
  const MachineInfo info = DescribeMachine();
  std::cout << Json{{"cpu", info.cpu_model},
                    {"cores", info.core_count},
                    {"instruction_sets", info.instruction_sets},
                    {"zstd", ZSTD_versionString()},
                    {"seed", kSeed},
                    {"repetitions", options.repetitions}}
                   .dump()
            << std::endl;
  int64_t next_file = 0;
  for (const Vector& vector : vectors) {
    for (const std::string& spec : options.pipelines.empty() ? DefaultPipelines() : options.pipelines) {
      Json line{{"source", vector.source}, {"pipeline", spec}};
      const absl::StatusOr<Pipeline> pipeline = Pipeline::Create(spec);
      const std::string file = options.symbols.empty() ? "" : absl::StrCat(options.symbols, "/", next_file++, ".i8");
      const absl::Status status = pipeline.ok() ? Measure(vector, *pipeline, options, file, machine, line) : pipeline.status();
      if (!status.ok()) line["skipped"] = std::string(status.message());
      std::cout << line.dump() << std::endl;
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  const absl::Status status = fedwatt::Run(argc, argv);
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << "\n";
  return 1;
}
