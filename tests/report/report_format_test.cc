// Every report format: golden files, the field list of its specification, what is missing, and hostile records.
#include "fedwatt/report/report_format.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <regex>
#include <set>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "tests/report/records.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::MakeAttempt;
using ::fedwatt::testing::MakeRound;
using ::fedwatt::testing::MakeSummary;
using ::fedwatt::testing::StatusIs;
using ::nlohmann::json;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A networked run of 2 rounds, 2 accepted updates and a late one in each, all joules known: 6.4 J.
RunRecord MakeRun() {
  RunRecord run{.rounds = {MakeRound(1, 0.5), MakeRound(2, 0.75)}, .attempts = {MakeAttempt(1), MakeAttempt(1), MakeAttempt(2), MakeAttempt(2)},
                .summary = MakeSummary()};
  run.attempts[1].client = run.attempts[3].client = "client-1";
  run.summary->simulated = false;
  run.summary->config = {{"aggregation.strategy", "fedavg", "default"},   {"data.format", "idx", "default"},
                         {"model.architecture", "mlp_2nn", "default"},    {"model.input_shape", "[1, 28, 28]", "default"},
                         {"partition.kind", "iid", "default"},            {"training.local_epochs", "1", "default"},
                         {"training.local_steps", "0", "default"},        {"training.loss", "cross_entropy", "default"}};
  return run;
}
ReportContext MakeContext() { return {.g_per_kwh = 475, .intensity_source = "world mean 2019", .location = "Brest, France"}; }

absl::StatusOr<std::map<std::string, std::string>> Files(const std::string& format, const RunRecord& run, const ReportContext& context = {}) {
  FEDWATT_ASSIGN_OR_RETURN(const ReportFormat found, ReportFormats().Find(format));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<ReportFile> made, found.render(run, MakeEnergyReport(run, context)));
  std::map<std::string, std::string> files;
  for (const ReportFile& file : made) files[file.name] = file.content;
  return files;
}
std::string File(const std::string& format, const std::string& name, const RunRecord& run, const ReportContext& context = {}) {
  auto files = Files(format, run, context);
  EXPECT_THAT(files, IsOk());
  EXPECT_EQ(files->count(name), 1u) << name;
  return (*files)[name];
}

RunRecord NothingMetered() {
  RunRecord run = MakeRun();
  for (RoundRecord& round : run.rounds) {
    round.client_energy = round.client_energy_low = round.client_energy_high = round.client_energy_wasted = std::nullopt;
    round.client_energy_clients = 0;
    round.client_energy_tier = EnergyTier::kMissing;
    round.client_energy_by_tier.clear();
    round.server_energy = {};
  }
  for (AttemptRecord& attempt : run.attempts) {
    for (PhaseSpan& span : attempt.phases) span.energy = {};
  }
  return run;
}

class EveryFormat : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Registered, EveryFormat, ::testing::ValuesIn(ReportFormats().Names()), [](const auto& info) { return info.param; });

TEST_P(EveryFormat, MatchesItsGoldenFiles) {
  // FEDWATT_UPDATE_GOLDEN=1 rewrites them; read the difference before committing it.
  ASSERT_OK_AND_ASSIGN(auto files, Files(GetParam(), MakeRun(), MakeContext()));
  ASSERT_FALSE(files.empty());
  for (const auto& [name, content] : files) {
    const std::string path = absl::StrCat(FEDWATT_GOLDEN_DIR, "/report/", name);
    if (std::getenv("FEDWATT_UPDATE_GOLDEN") != nullptr) {
      ASSERT_THAT(WriteFileAtomically(path, content), IsOk());
    }
    EXPECT_EQ(ReadFile(path).value_or("absent"), content) << path;
  }
}

TEST_P(EveryFormat, SaysHowWellItKnowsBeforeTheHeadline) {
  ASSERT_OK_AND_ASSIGN(auto files, Files(GetParam(), MakeRun(), MakeContext()));
  bool said = false;
  for (const auto& [name, content] : files) {
    const size_t boundary = content.find("boundary"), coverage = content.find("coverage"), tiers = content.find("tier");
    if (boundary == std::string::npos) continue;
    said = true;
    ASSERT_NE(coverage, std::string::npos) << name;
    ASSERT_NE(tiers, std::string::npos) << name;
    // The sum in the unit of the format: microjoules, joules or kWh; or the accepted clients' part of it, as formats with several lines show it.
    for (const char* headline : {"6400000", "6.40 J", "1.7777777777777777e-06", "0.00000177", "4000000", "4.00 J", "0.0008444"}) {
      const size_t at = content.find(headline);
      if (at != std::string::npos) {
        EXPECT_LT(std::max(boundary, coverage), at) << name << " " << headline;
      }
    }
  }
  EXPECT_TRUE(said);
}

TEST_P(EveryFormat, WritesNoNumberThatIsNone) {
  const std::regex none(R"((^|[^A-Za-z])(-?nan|-?inf|infinity|NaN)([^A-Za-z]|$))");
  RunRecord endless = MakeRun();
  endless.rounds[0].wall_seconds = endless.rounds[0].client_train_seconds = std::numeric_limits<double>::infinity();
  endless.rounds[1].train_loss = endless.rounds[1].eval_accuracy = std::numeric_limits<double>::quiet_NaN();
  endless.attempts[0].fit_macs = 1e308;
  for (const RunRecord& run : {RunRecord{}, NothingMetered(), RunRecord{.rounds = MakeRun().rounds}, endless}) {
    auto files = Files(GetParam(), run, MakeContext());
    if (!files.ok()) {
      EXPECT_THAT(files, StatusIs(absl::StatusCode::kFailedPrecondition, _));
      continue;
    }
    for (const auto& [name, content] : *files) {
      if (absl::EndsWith(name, ".html") || absl::EndsWith(name, ".txt")) continue;  // for people, of records that were checked when read
      EXPECT_FALSE(std::regex_search(content, none)) << name << "\n" << content;
    }
  }
}

TEST_P(EveryFormat, KeepsHostileTextInItsPlace) {
  RunRecord run = MakeRun();
  const std::string hostile = "a\"b',c\nd|e\\ --- <script>: #{}=1";
  run.summary->run_id = run.summary->version = run.summary->command = run.summary->model_path = hostile;
  for (RoundRecord& round : run.rounds) round.run_id = hostile;
  for (SettingWithOrigin& setting : run.summary->config) {
    if (!absl::StartsWith(setting.key, "training.")) setting.value = hostile;
  }
  for (AttemptRecord& attempt : run.attempts) {
    attempt.client = attempt.fit.number_format = hostile;
    attempt.phases[0].energy.source = hostile;
  }
  ASSERT_OK_AND_ASSIGN(auto files, Files(GetParam(), run, {.g_per_kwh = 475, .intensity_source = hostile, .location = hostile}));
  ASSERT_OK_AND_ASSIGN(auto tame, Files(GetParam(), MakeRun(), MakeContext()));
  ASSERT_EQ(files.size(), tame.size());
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  for (const auto& [name, content] : files) {
    if (absl::EndsWith(name, ".html")) {
      EXPECT_THAT(content, Not(HasSubstr("<script>")));
    } else {
      EXPECT_THAT(content, Not(HasSubstr("\nd|e\\ ---"))) << name;
    }
    if (absl::EndsWith(name, ".json")) {
      EXPECT_FALSE(json::parse(content, nullptr, false).is_discarded()) << name;
    }
    if (absl::EndsWith(name, ".csv") || absl::EndsWith(name, ".yaml") || absl::EndsWith(name, ".md") || absl::EndsWith(name, ".prom")) {
      EXPECT_EQ(lines(content), lines(tame[name])) << name;
    }
  }
}

// --- CodeCarbon -------------------------------------------------------------------------------------------------------------------------

// A line of RFC 4180 whose cells hold no line ends.
std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (quoted && line[i] == '"' && i + 1 < line.size() && line[i + 1] == '"') {
      cells.back() += line[++i];
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (line[i] == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += line[i];
    }
  }
  return cells;
}
std::map<std::string, std::string> Row(const std::string& csv) {
  const std::vector<std::string> lines = absl::StrSplit(csv, '\n');
  EXPECT_EQ(lines.size(), 3u);
  const std::vector<std::string> names = Cells(lines[0]), values = Cells(lines[1]);
  EXPECT_EQ(names.size(), values.size());
  std::map<std::string, std::string> row;
  for (size_t i = 0; i < std::min(names.size(), values.size()); ++i) row[names[i]] = values[i];
  return row;
}

constexpr char kCodeCarbonColumns[] =
    "timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,ram_energy,"
    "energy_consumed,water_consumed,country_name,country_iso_code,region,cloud_provider,cloud_region,os,python_version,codecarbon_version,cpu_count,"
    "cpu_model,gpu_count,gpu_model,longitude,latitude,ram_total_size,tracking_mode,cpu_utilization_percent,gpu_utilization_percent,"
    "ram_utilization_percent,ram_used_gb,on_cloud,pue,wue";

TEST(CodeCarbonTest, HasItsColumnsAndUnits) {
  const std::string csv = File("codecarbon", "emissions.csv", MakeRun(), MakeContext());
  EXPECT_EQ(csv.substr(0, csv.find('\n')), kCodeCarbonColumns);
  auto row = Row(csv);
  double number = 0;
  ASSERT_TRUE(absl::SimpleAtod(row["energy_consumed"], &number));
  EXPECT_DOUBLE_EQ(number, 6.4 / 3.6e6) << "kWh";
  ASSERT_TRUE(absl::SimpleAtod(row["emissions"], &number));
  EXPECT_DOUBLE_EQ(number, 6.4 / 3.6e6 * 475 / 1000) << "kilograms";
  ASSERT_TRUE(absl::SimpleAtod(row["emissions_rate"], &number));
  EXPECT_DOUBLE_EQ(number, 6.4 / 3.6e6 * 475 / 1000 / 5) << "kilograms a second";
  EXPECT_EQ(row["duration"], "5");
  EXPECT_EQ(row["run_id"], "run-1");
  EXPECT_EQ(row["timestamp"], "2023-11-14T22:13:42");
}

TEST(CodeCarbonTest, MissingIsEmptyAndShiftsNoColumn) {
  for (const RunRecord& run : {NothingMetered(), RunRecord{}}) {
    const std::string csv = File("codecarbon", "emissions.csv", run);
    EXPECT_EQ(csv.substr(0, csv.find('\n')), kCodeCarbonColumns);
    auto row = Row(csv);
    EXPECT_EQ(row.size(), 38u);
    for (const char* name : {"emissions", "emissions_rate", "energy_consumed", "cpu_energy", "pue"}) EXPECT_EQ(row[name], "") << name;
    auto extension = Row(File("codecarbon", "emissions_extension.csv", run));
    for (const char* name : {"energy_uj", "client_energy_uj", "energy_is_estimate", "server_energy_uj"}) EXPECT_EQ(extension[name], "") << name;
    EXPECT_EQ(extension["energy_tier"], "missing");
    EXPECT_EQ(extension["energy_complete"], "0");
  }
}

TEST(CodeCarbonTest, TheExtensionJoinsByRunAndKeepsTheFlag) {
  RunRecord run = MakeRun();
  run.summary->run_id = "run,\"1\"";
  auto row = Row(File("codecarbon", "emissions.csv", run));
  auto extension = Row(File("codecarbon", "emissions_extension.csv", run));
  EXPECT_EQ(row["run_id"], "run,\"1\"");
  EXPECT_EQ(extension["run_id"], row["run_id"]);
  EXPECT_EQ(extension["energy_uj"], "6400000");
  EXPECT_EQ(extension["energy_is_estimate"], "1");
  EXPECT_EQ(extension["energy_complete"], "0") << "a quarter of the clients' time was not metered";
  EXPECT_EQ(extension["client_energy_by_tier_uj"], "component:1000000 generic:3000000");
  EXPECT_EQ(extension["client_coverage"], "0.75");
  for (const auto& [name, value] : extension) EXPECT_TRUE(name == "run_id" || row.count(name) == 0) << name;
}

// --- checks of JSON against a field list ------------------------------------------------------------------------------------------------

enum class Kind { kText, kNumber, kFraction, kInteger, kObject, kArray };
struct Field {
  std::string name;
  Kind kind;
  bool required = false;
  std::set<std::string> values = {};  // of a text; empty: any
};

// Each member is in the list and of its kind, each required one is there.
void CheckFields(const json& object, const std::vector<Field>& fields, const std::string& where) {
  ASSERT_TRUE(object.is_object()) << where;
  for (const auto& [name, value] : object.items()) {
    const auto field = std::find_if(fields.begin(), fields.end(), [&name = name](const Field& f) { return f.name == name; });
    ASSERT_NE(field, fields.end()) << where << " has no field " << name;
    switch (field->kind) {
      case Kind::kText:
        ASSERT_TRUE(value.is_string()) << where << "." << name;
        EXPECT_TRUE(field->values.empty() || field->values.count(value.get<std::string>())) << where << "." << name << ": " << value;
        break;
      case Kind::kNumber: EXPECT_TRUE(value.is_number()) << where << "." << name; break;
      case Kind::kInteger: EXPECT_TRUE(value.is_number_integer()) << where << "." << name; break;
      case Kind::kFraction:
        ASSERT_TRUE(value.is_number()) << where << "." << name;
        EXPECT_TRUE(value >= 0 && value <= 1) << where << "." << name;
        break;
      case Kind::kObject: EXPECT_TRUE(value.is_object()) << where << "." << name; break;
      case Kind::kArray: EXPECT_TRUE(value.is_array() && !value.empty()) << where << "." << name; break;
    }
  }
  for (const Field& field : fields) EXPECT_TRUE(!field.required || object.contains(field.name)) << where << " lacks " << field.name;
}

// --- BoAmps: model/*.json of github.com/Boavizta/BoAmps -----------------------------------------------------------------------------------

void CheckBoamps(const json& report) {
  CheckFields(report,
              {{"header", Kind::kObject}, {"task", Kind::kObject, true}, {"measures", Kind::kArray, true}, {"system", Kind::kObject}, {"software", Kind::kObject},
               {"infrastructure", Kind::kObject, true}, {"environment", Kind::kObject}, {"quality", Kind::kText, false, {"high", "medium", "low"}}},
              "report");
  CheckFields(report["header"],
              {{"licensing", Kind::kText}, {"formatVersion", Kind::kText}, {"formatVersionSpecificationUri", Kind::kText}, {"reportId", Kind::kText},
               {"reportDatetime", Kind::kText, true}, {"reportStatus", Kind::kText, false, {"draft", "final", "corrective", "other"}},
               {"publisher", Kind::kObject}},
              "header");
  CheckFields(report["header"]["publisher"],
              {{"name", Kind::kText}, {"division", Kind::kText}, {"projectName", Kind::kText},
               {"confidentialityLevel", Kind::kText, true, {"public", "internal", "confidential", "secret"}}, {"publicKey", Kind::kText}},
              "publisher");
  CheckFields(report["task"],
              {{"taskStage", Kind::kText, true}, {"taskFamily", Kind::kText, true}, {"nbRequest", Kind::kNumber}, {"algorithms", Kind::kArray, true},
               {"dataset", Kind::kArray, true}, {"measuredAccuracy", Kind::kFraction}, {"estimatedAccuracy", Kind::kText}, {"taskDescription", Kind::kText}},
              "task");
  for (const json& algorithm : report["task"]["algorithms"]) {
    CheckFields(algorithm,
                {{"trainingType", Kind::kText}, {"algorithmType", Kind::kText}, {"algorithmName", Kind::kText}, {"algorithmUri", Kind::kText},
                 {"parametersNumber", Kind::kNumber}, {"framework", Kind::kText}, {"frameworkVersion", Kind::kText}, {"layersNumber", Kind::kNumber},
                 {"epochsNumber", Kind::kNumber}, {"optimizer", Kind::kText}, {"quantization", Kind::kText}},
                "algorithm");
  }
  for (const json& dataset : report["task"]["dataset"]) {
    CheckFields(dataset,
                {{"dataUsage", Kind::kText, true, {"input", "output"}},
                 {"dataType", Kind::kText, true, {"tabular", "audio", "boolean", "image", "video", "object", "text", "token", "word", "other"}},
                 {"dataFormat", Kind::kText}, {"dataSize", Kind::kNumber}, {"dataQuantity", Kind::kNumber}, {"shape", Kind::kText}},
                "dataset");
  }
  for (const json& measure : report["measures"]) {
    CheckFields(measure,
                {{"measurementMethod", Kind::kText, true}, {"manufacturer", Kind::kText}, {"version", Kind::kText}, {"cpuTrackingMode", Kind::kText},
                 {"gpuTrackingMode", Kind::kText}, {"averageUtilizationCpu", Kind::kFraction}, {"averageUtilizationGpu", Kind::kFraction},
                 {"powerCalibrationMeasurement", Kind::kNumber}, {"durationCalibrationMeasurement", Kind::kNumber}, {"powerConsumption", Kind::kNumber, true},
                 {"measurementDuration", Kind::kNumber}, {"measurementDateTime", Kind::kText}},
                "measure");
    EXPECT_TRUE(std::regex_match(measure["measurementDateTime"].get<std::string>(), std::regex(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")));
  }
  CheckFields(report["infrastructure"],
              {{"infraType", Kind::kText, true, {"publicCloud", "privateCloud", "onPremise", "other"}}, {"cloudProvider", Kind::kText},
               {"components", Kind::kArray, true}},
              "infrastructure");
  for (const json& component : report["infrastructure"]["components"]) {
    CheckFields(component,
                {{"componentName", Kind::kText}, {"componentType", Kind::kText, true}, {"nbComponent", Kind::kInteger, true}, {"memorySize", Kind::kInteger},
                 {"share", Kind::kFraction}},
                "component");
  }
  if (report.contains("environment")) {
    CheckFields(report["environment"], {{"country", Kind::kText, true}, {"location", Kind::kText}, {"powerSourceCarbonIntensity", Kind::kNumber}}, "environment");
  }
}

TEST(BoampsTest, FitsTheSchema) {
  CheckBoamps(json::parse(File("boamps", "boamps.json", MakeRun(), MakeContext())));
  const json bare = json::parse(File("boamps", "boamps.json", RunRecord{.rounds = {MakeRound(1, 0.5)}}));
  CheckBoamps(bare);
  EXPECT_FALSE(bare.contains("environment"));
  EXPECT_EQ(bare["header"]["reportStatus"], "draft");
  EXPECT_DOUBLE_EQ(bare["measures"][0]["powerConsumption"], 3.2 / 3.6e6);
  EXPECT_FALSE(bare.contains("quality")) << "an interval of 50 to 200 % is worse than their worst";
}

TEST(BoampsTest, RefusesARunWithoutJoules) {
  EXPECT_THAT(Files("boamps", NothingMetered()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("powerConsumption")));
}

TEST(BoampsTest, QualityIsTheIntervalOfACompleteSum) {
  RunRecord run{.rounds = {MakeRound(1, 0.5)}};
  RoundRecord& round = run.rounds[0];
  round.clients_late = 0;
  round.client_energy_wasted.reset();
  round.server_energy.energy = Energy();
  const auto quality = [&run] { return json::parse(File("boamps", "boamps.json", run)).value("quality", "none"); };
  round.client_energy_low = Microjoules(1900000);
  round.client_energy_high = Microjoules(2150000);
  EXPECT_EQ(quality(), "high");
  round.client_energy_low = Microjoules(1500000);
  EXPECT_EQ(quality(), "medium");
  round.client_energy_high = Microjoules(3000000);
  EXPECT_EQ(quality(), "low");
  round.client_energy_high = Microjoules(3100000);
  EXPECT_EQ(quality(), "none");
  round.client_energy_high = Microjoules(2100000);
  round.server_energy = {};
  EXPECT_EQ(quality(), "none") << "the coordinator's joules are unknown";
}

// --- SPDX 3.0.1, JSON-LD ------------------------------------------------------------------------------------------------------------------

void CheckSpdx(const json& document) {
  EXPECT_EQ(document["@context"], "https://spdx.org/rdf/3.0.1/spdx-context.jsonld");
  ASSERT_EQ(document.size(), 2u);
  const std::regex iri("(?!_:).+:.+"), stamp(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"), decimal(R"(-?[0-9]+(\.[0-9]*)?)");
  std::set<std::string> identifiers;
  std::map<std::string, int> types;
  for (const json& element : document["@graph"]) {
    const std::string type = element["type"];
    ++types[type];
    if (type == "CreationInfo") {
      CheckFields(element,
                  {{"type", Kind::kText, true}, {"@id", Kind::kText, true}, {"specVersion", Kind::kText, true, {"3.0.1"}}, {"created", Kind::kText, true},
                   {"createdBy", Kind::kArray, true}},
                  type);
      EXPECT_TRUE(std::regex_match(element["created"].get<std::string>(), stamp));
      continue;
    }
    EXPECT_EQ(element["creationInfo"], "_:creation");
    const std::string id = element["spdxId"];
    EXPECT_TRUE(std::regex_match(id, iri)) << id;
    EXPECT_TRUE(identifiers.insert(id).second) << id;
  }
  EXPECT_EQ(types["CreationInfo"], 1);
  EXPECT_EQ(types["ai_AIPackage"], 1);
  for (const json& element : document["@graph"]) {
    const std::string type = element["type"];
    if (type == "Relationship") {
      CheckFields(element,
                  {{"type", Kind::kText, true}, {"spdxId", Kind::kText, true}, {"creationInfo", Kind::kText, true}, {"from", Kind::kText, true},
                   {"to", Kind::kArray, true}, {"relationshipType", Kind::kText, true, {"hasDeclaredLicense", "hasConcludedLicense"}}},
                  type);
      EXPECT_TRUE(identifiers.count(element["from"].get<std::string>()));
    } else if (type == "ai_AIPackage") {
      // The five that the AI profile makes obligatory, and those used.
      CheckFields(element,
                  {{"type", Kind::kText, true}, {"spdxId", Kind::kText, true}, {"creationInfo", Kind::kText, true}, {"name", Kind::kText},
                   {"releaseTime", Kind::kText, true}, {"suppliedBy", Kind::kText, true}, {"software_downloadLocation", Kind::kText, true},
                   {"software_packageVersion", Kind::kText, true}, {"software_primaryPurpose", Kind::kText, true, {"model"}}, {"ai_typeOfModel", Kind::kArray},
                   {"ai_informationAboutTraining", Kind::kText}, {"ai_energyConsumption", Kind::kObject}, {"ai_metric", Kind::kArray}},
                  type);
      EXPECT_TRUE(identifiers.count(element["suppliedBy"].get<std::string>()));
      EXPECT_TRUE(std::regex_match(element["releaseTime"].get<std::string>(), stamp));
      for (const json& metric : element.value("ai_metric", json::array())) {
        CheckFields(metric, {{"type", Kind::kText, true, {"DictionaryEntry"}}, {"key", Kind::kText, true}, {"value", Kind::kText}}, "metric");
      }
      if (!element.contains("ai_energyConsumption")) continue;
      CheckFields(element["ai_energyConsumption"],
                  {{"type", Kind::kText, true, {"ai_EnergyConsumption"}}, {"ai_trainingEnergyConsumption", Kind::kArray, true}}, "ai_energyConsumption");
      for (const json& energy : element["ai_energyConsumption"]["ai_trainingEnergyConsumption"]) {
        CheckFields(energy,
                    {{"type", Kind::kText, true, {"ai_EnergyConsumptionDescription"}}, {"ai_energyQuantity", Kind::kText, true},
                     {"ai_energyUnit", Kind::kText, true, {"kilowattHour"}}},
                    "training energy");
        EXPECT_TRUE(std::regex_match(energy["ai_energyQuantity"].get<std::string>(), decimal));
      }
    } else if (type != "CreationInfo") {
      EXPECT_TRUE(type == "Agent" || type == "SoftwareAgent") << type;
    }
  }
}

TEST(SpdxTest, FitsTheSchema) {
  const json document = json::parse(File("spdx", "spdx.json", MakeRun(), MakeContext()));
  CheckSpdx(document);
  EXPECT_EQ(document["@graph"][3]["ai_energyConsumption"]["ai_trainingEnergyConsumption"][0]["ai_energyQuantity"], "0.000001777777777778");
  RunRecord hostile = MakeRun();
  hostile.summary->run_id = "a b/ü";
  const json escaped = json::parse(File("spdx", "spdx.json", hostile));
  CheckSpdx(escaped);
  EXPECT_EQ(escaped["@graph"][1]["spdxId"], "urn:fedwatt:run:a%20b%2F%C3%BC:fedwatt");
}

TEST(SpdxTest, UnknownEnergyIsLeftOut) {
  const json document = json::parse(File("spdx", "spdx.json", NothingMetered()));
  CheckSpdx(document);
  EXPECT_FALSE(document["@graph"][3].contains("ai_energyConsumption"));
  EXPECT_THAT(Files("spdx", RunRecord{}), StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

// --- the others ---------------------------------------------------------------------------------------------------------------------------

TEST(ModelCardTest, GivesGramsOrNothing) {
  const std::string card = File("model_card", "model_card.yaml", MakeRun(), MakeContext());
  std::vector<std::string> keys;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(card, '\n', absl::SkipEmpty()))) {
    if (line != "---" && line[0] != '#') keys.push_back(line.substr(0, line.find(':')));
  }
  EXPECT_THAT(keys, ElementsAre("co2_eq_emissions", "  emissions", "  source", "  training_type", "  geographical_location", "  hardware_used"));
  std::smatch match;
  ASSERT_TRUE(std::regex_search(card, match, std::regex("\n  emissions: (.*)\n")));
  double grams = 0;
  ASSERT_TRUE(absl::SimpleAtod(match[1].str(), &grams));
  EXPECT_DOUBLE_EQ(grams, 6.4 / 3.6e6 * 475);
  EXPECT_THAT(card, HasSubstr("source: \"fedwatt 0.1.0, estimated, tier generic, metered parts only; 475 g/kWh, world mean 2019; manufacture not included\""));
  for (const auto& [run, why] : {std::pair(MakeRun(), "intensity is"), std::pair(NothingMetered(), "no joules are known")}) {
    const std::string unknown = File("model_card", "model_card.yaml", run);
    EXPECT_THAT(unknown, Not(HasSubstr("\nco2_eq_emissions:")));
    EXPECT_THAT(unknown, HasSubstr(why));
  }
}

TEST(AnnexXiTest, HasEveryPointOfSectionOne) {
  for (const RunRecord& run : {MakeRun(), NothingMetered(), RunRecord{}}) {
    const std::string sheet = File("annex_xi", "annex_xi.md", run, MakeContext());
    for (const char* point : {"1(a)", "1(b)", "1(c)", "1(d)", "1(e)", "1(f)", "2(a)", "2(b)", "2(c)", "2(d)", "2(e)"}) {
      EXPECT_THAT(sheet, HasSubstr(absl::StrCat("| ", point, " | "))) << point;
    }
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(sheet, '\n'))) {
      if (line.empty() || line[0] != '|') continue;
      size_t bars = 0;
      for (size_t i = 0; i < line.size(); ++i) bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
      EXPECT_EQ(bars, 5u) << line;
    }
  }
  const std::string sheet = File("annex_xi", "annex_xi.md", MakeRun(), MakeContext());
  // 4 updates x 300 examples x 199210 multiply-adds x 2 x 3.
  EXPECT_THAT(sheet, HasSubstr("1434312000 floating-point operations | derived"));
  EXPECT_THAT(sheet, HasSubstr("~6.40 J = 1.7777777777777777e-06 kWh | estimated, tier generic |"));
  EXPECT_THAT(File("annex_xi", "annex_xi.md", NothingMetered()), HasSubstr("| energy consumption | unknown;"));
}

TEST(SciTest, ScoresPerUnitAndLeavesUnknownsNull) {
  json sci = json::parse(File("sci", "sci.json", MakeRun(), MakeContext()));
  const double grams = 6.4 / 3.6e6 * 475;
  ASSERT_EQ(sci["scores"].size(), 3u);
  EXPECT_DOUBLE_EQ(sci["scores"][0]["operational_g"], grams / 2);
  EXPECT_DOUBLE_EQ(sci["scores"][1]["operational_g"], grams / 4);
  EXPECT_DOUBLE_EQ(sci["scores"][2]["operational_g"], grams / 75);
  EXPECT_TRUE(sci["scores"][0]["sci_g"].is_null()) << "embodied carbon is unknown, so the score is";
  EXPECT_EQ(sci["energy_is_estimate"], true);
  sci = json::parse(File("sci", "sci.json", RunRecord{}, MakeContext()));
  for (const char* name : {"energy_kwh", "energy_is_estimate", "operational_g", "embodied_g"}) EXPECT_TRUE(sci[name].is_null()) << name;
  EXPECT_TRUE(sci["scores"][0]["operational_g"].is_null());
}

TEST(PrometheusTest, FollowsTheTextFormat) {
  RunRecord hostile = MakeRun();
  hostile.summary->run_id = "a\"b\\c\nd";
  for (const RunRecord& run : {MakeRun(), NothingMetered(), RunRecord{}, hostile}) {
    const std::string text = File("prometheus", "fedwatt.prom", run, MakeContext());
    const std::regex sample(R"re(([a-z_]+)\{([a-z_]+="([^"\\]|\\["\\n])*",?)+\} -?[0-9.]+(e[+-][0-9]+)?)re");
    std::map<std::string, std::string> types;
    std::set<std::string> series, closed;
    std::string family;
    ASSERT_EQ(text.back(), '\n');
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n', absl::SkipEmpty()))) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words[0] == "#") {
        if (words[1] == "TYPE") {
          EXPECT_TRUE(types.emplace(words[2], words[3]).second) << line;
          EXPECT_TRUE(words[3] == "counter" || words[3] == "gauge") << line;
          EXPECT_EQ(words[3] == "counter", absl::EndsWith(words[2], "_total")) << line;
        }
        continue;
      }
      std::smatch match;
      ASSERT_TRUE(std::regex_match(line, match, sample)) << line;
      const std::string name = match[1];
      EXPECT_EQ(types.count(name), 1u) << line;
      EXPECT_TRUE(absl::StartsWith(name, "fedwatt_"));
      EXPECT_TRUE(series.insert(line.substr(0, line.rfind(' '))).second) << line;
      if (name != family) {
        EXPECT_TRUE(closed.insert(name).second) << "lines of one family stand together: " << line;
        family = name;
      }
    }
  }
  EXPECT_THAT(File("prometheus", "fedwatt.prom", MakeRun()), HasSubstr("fedwatt_client_energy_joules_total{run=\"run-1\",tier=\"generic\",estimate=\"true\"} 3\n"));
  EXPECT_THAT(File("prometheus", "fedwatt.prom", NothingMetered()), Not(HasSubstr("joules_total{")));
}

TEST(JsonReportTest, PassesOnFieldsOfLaterVersions) {
  RunRecord run = MakeRun();
  run.round_lines = {R"({"round":1,"from_the_future":5})"};
  run.summary_text = R"({"also_new":[1]})";
  const json report = json::parse(File("json", "report.json", run, MakeContext()));
  EXPECT_EQ(report["rounds"][0]["from_the_future"], 5);
  EXPECT_EQ(report["summary"]["also_new"][0], 1);
  EXPECT_EQ(report["energy"]["total"]["energy_uj"], 6400000);
  EXPECT_EQ(report["energy"]["total"]["is_estimate"], true);
  EXPECT_TRUE(json::parse(File("json", "report.json", NothingMetered()))["energy"]["total"]["energy_uj"].is_null());
}

// --- hostile records ----------------------------------------------------------------------------------------------------------------------

class HostileRecord : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(::testing::TempDir(), "fedwatt-hostile-record-", getpid());  // tests run side by side
    std::filesystem::remove_all(folder_);
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<RunRecordWriter> writer, RunRecordWriter::Open(folder_));
    const RunRecord run = MakeRun();
    for (const RoundRecord& round : run.rounds) ASSERT_THAT(writer->WriteRound(round), IsOk());
    for (const AttemptRecord& attempt : run.attempts) ASSERT_THAT(writer->WriteAttempt(attempt), IsOk());
    ASSERT_THAT(writer->WriteSummary(*run.summary), IsOk());
    for (const char* name : {"rounds.jsonl", "clients.jsonl", "summary.json"}) {
      ASSERT_OK_AND_ASSIGN(files_[name], ReadFile(folder_ + "/" + name));
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // With one file replaced. Either a typed error, or a record that every format can tell.
  void Expect(const std::string& name, const std::string& content) {
    { std::ofstream(folder_ + "/" + name, std::ios::binary) << content; }
    const absl::StatusOr<RunRecord> run = ReadRunRecord(folder_);
    if (!run.ok()) {
      EXPECT_EQ(run.status().code(), absl::StatusCode::kDataLoss) << run.status();
      EXPECT_THAT(std::string(run.status().message()), HasSubstr(name));
      ++refused_;
    } else {
      for (const std::string& format : ReportFormats().Names()) {
        const auto files = Files(format, *run, MakeContext());
        EXPECT_TRUE(files.ok() || absl::IsFailedPrecondition(files.status())) << files.status();
      }
      ++accepted_;
    }
    { std::ofstream(folder_ + "/" + name, std::ios::binary) << files_[name]; }
  }
  void ExpectRefused(const std::string& name, const std::string& field, const std::string& value) {
    std::string text = files_[name];
    const std::regex pattern("\"" + field + "\":[^,}\\]]+");
    ASSERT_TRUE(std::regex_search(text, pattern)) << field;
    { std::ofstream(folder_ + "/" + name, std::ios::binary) << std::regex_replace(text, pattern, "\"" + field + "\":" + value, std::regex_constants::format_first_only); }
    EXPECT_THAT(ReadRunRecord(folder_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(field))) << value;
    { std::ofstream(folder_ + "/" + name, std::ios::binary) << files_[name]; }
  }

  std::string folder_;
  std::map<std::string, std::string> files_;
  int refused_ = 0, accepted_ = 0;
};

TEST_F(HostileRecord, CutAnywhereIsAnErrorOrAShorterRun) {
  for (const auto& [name, content] : std::map<std::string, std::string>(files_)) {
    for (size_t length = 0; length < content.size(); length += 61) Expect(name, content.substr(0, length));
  }
  EXPECT_GT(refused_, 10);
  EXPECT_GT(accepted_, 10);
}

TEST_F(HostileRecord, FlippedBytesNeverPassAsNumbersThatCannotBe) {
  Random random(7);
  for (const auto& [name, content] : std::map<std::string, std::string>(files_)) {
    for (int i = 0; i < 70; ++i) {
      std::string text = content;
      for (int flips = 0; flips < 1 + i % 3; ++flips) text[random.Below(text.size())] = "0123456789-e.,:\"{}[]n \xff"[random.Below(23)];
      Expect(name, text);
    }
  }
  EXPECT_GT(refused_, 50);
  EXPECT_GT(accepted_, 10);
}

TEST_F(HostileRecord, NumbersThatNoRunHasAreRefusedByName) {
  ExpectRefused("rounds.jsonl", "client_energy_uj", "-1");
  ExpectRefused("rounds.jsonl", "client_energy_uj", "9000000000000000000");
  ExpectRefused("rounds.jsonl", "server_energy_uj", "1.5");
  ExpectRefused("rounds.jsonl", "uplink_wire_bytes", "-5");
  ExpectRefused("rounds.jsonl", "wall_seconds", "-0.1");
  ExpectRefused("rounds.jsonl", "wall_seconds", "1e300");
  ExpectRefused("rounds.jsonl", "eval_accuracy", "1.01");
  ExpectRefused("rounds.jsonl", "train_loss", "1.01e30");
  ExpectRefused("clients.jsonl", "train_loss", "-1.01e30");
  ExpectRefused("rounds.jsonl", "started_at", "\"infinite-future\"");
  ExpectRefused("rounds.jsonl", "finished_at", "\"1969-12-31T23:59:59Z\"");
  ExpectRefused("clients.jsonl", "energy_uj", "-1");
  ExpectRefused("clients.jsonl", "seconds", "1e16");
  ExpectRefused("clients.jsonl", "macs_per_example", "-1");
  ExpectRefused("clients.jsonl", "width_fraction", "2");
}

TEST_F(HostileRecord, ARefusedClientsClaimDoesNotMakeTheRecordUnreadable) {
  RunRecord run = MakeRun();
  AttemptRecord refused = run.attempts[0];
  refused.outcome = "rejected";
  refused.train_examples = -5;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<RunRecordWriter> writer, RunRecordWriter::Open(folder_));
  ASSERT_THAT(writer->WriteAttempt(refused), IsOk());
  EXPECT_THAT(ReadRunRecord(folder_), IsOk());
  refused.outcome = "accepted";
  ASSERT_THAT(writer->WriteAttempt(refused), IsOk());
  EXPECT_THAT(ReadRunRecord(folder_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("train_examples")));
}

TEST_F(HostileRecord, SumsThatWouldOverflowAreRefused) {
  std::string lines;
  for (int i = 0; i < 4; ++i) {
    lines += std::regex_replace(files_["rounds.jsonl"].substr(0, files_["rounds.jsonl"].find('\n') + 1), std::regex("\"uplink_payload_bytes\":[0-9]+"),
                                "\"uplink_payload_bytes\":1000000000000000000");
  }
  { std::ofstream(folder_ + "/rounds.jsonl", std::ios::binary) << lines; }
  EXPECT_THAT(ReadRunRecord(folder_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rounds.jsonl:4: field 'uplink_payload_bytes'")));
}

// Two clients with two attempts each: 1 MB down, 1.5 s of training, 0.5 MB up in 0.5 s, and at once the next.
TEST(NetworkReportTest, PricesTheBytesByModelsBesideEverySum) {
  const json network = json::parse(File("json", "report.json", MakeRun()))["network"];
  EXPECT_EQ(network["tier"], "modelled");
  EXPECT_EQ(network["bytes"], 6e6);
  EXPECT_EQ(network["complete"], true);
  // LTE: 8 Mbit take 8/13 s, 4 Mbit 4/6 s. The first download ends 1.5 - 8/13 s before the upload; the second begins within the upload's model time and waits for it.
  const double promotion = 0.2601 * 1.2107, down = 8.0 / 13 * (1.28804 + 0.05197 * 13), up = 4.0 / 6 * (1.28804 + 0.43839 * 6);
  const double gaps = (1.5 - 8.0 / 13) + (3.5 - (1.5 + 4.0 / 6 + 8.0 / 13)), tail = 11.576;
  const json& lte = network["radios"][1];
  EXPECT_EQ(lte["link"], "lte");
  EXPECT_NEAR(lte["joules"]["value"].get<double>(), 2 * (promotion + 2 * (down + up) + (gaps + tail) * 1.060), 1e-9);
  EXPECT_NEAR(lte["joules"]["high"].get<double>(), 2 * lte["joules"]["value"].get<double>(), 1e-9);
  EXPECT_EQ(lte["kept_alive_joules"], lte["joules"]) << "nobody waited for 20 s";
  EXPECT_NEAR(network["allocated"][1]["joules"].get<double>(), 6e-3 * 0.03 * 3.6e6, 1e-9);
  EXPECT_NEAR(network["power_model"]["joules"]["low"].get<double>(), 48 * 0.05, 1e-9);
  EXPECT_NEAR(network["power_model"]["joules"]["value"].get<double>(), 48 * 0.05 + 6.5 * 48 / 20, 1e-9);

  // The kernel's own counts go before payloads; a wait of 45 s has two pings, each a tail and a promotion.
  RunRecord waited = MakeRun();
  waited.attempts = {waited.attempts[0], waited.attempts[0]};
  waited.attempts[1].between = {PhaseSpan{Phase::kIdleWait, absl::Seconds(45)}};
  for (AttemptRecord& attempt : waited.attempts) {
    attempt.downlink_wire_bytes = 1'100'000;
    attempt.downlink_header_bytes = 40'000;
  }
  const json other = json::parse(File("json", "report.json", waited))["network"];
  EXPECT_EQ(other["bytes"], 2 * (1.14e6 + 0.5e6));
  EXPECT_NEAR(other["radios"][1]["kept_alive_joules"]["value"].get<double>() - other["radios"][1]["joules"]["value"].get<double>(),
              // 45.5 s less what of the upload lasts on: two whole pings more than the one tail, and the rest of the third.
              promotion + (tail + (45.5 - 4.0 / 6 - 40)) * 1.060, 1e-9);

  RunRecord simulated = MakeRun();
  simulated.summary->simulated = true;
  EXPECT_TRUE(json::parse(File("json", "report.json", simulated))["network"]["radios"][0]["kept_alive_joules"].is_null());
  RunRecord silent = MakeRun();
  silent.attempts.clear();
  EXPECT_TRUE(json::parse(File("json", "report.json", silent))["network"].is_null());
  RunRecord untold = MakeRun();
  untold.attempts[0].uplink_payload_bytes.reset();
  EXPECT_EQ(json::parse(File("json", "report.json", untold))["network"]["complete"], false);
}

}  // namespace
}  // namespace fedwatt
