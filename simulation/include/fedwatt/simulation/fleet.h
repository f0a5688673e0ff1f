// A whole federation in one process: the coordinator's round engine and the clients' participant, driven in virtual time without sockets. With the
// same seed and members it commits the same models as a networked run, bit for bit.
#ifndef FEDWATT_SIMULATION_FLEET_H_
#define FEDWATT_SIMULATION_FLEET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/log.h"
#include "fedwatt/energy/device_class.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/engine.h"
#include "fedwatt/round/global_model.h"
#include "fedwatt/round/model_archive.h"

namespace fedwatt {

struct FleetOptions {
  EngineOptions engine;               // wait_for_clients is set to all members
  GlobalModelOptions model;           // its layout is filled from the trainer
  std::vector<float> initial_model;   // empty: the trainer's InitialModel(InitialModelSeed(seed))
  LocalTrainerFactory trainer_factory;
  std::vector<Dataset> partitions;    // one per member, at least one
  std::optional<Dataset> test;        // central evaluation; none: no central evaluation
  double held_out_fraction = 0;       // > 0: each member keeps this part for federated evaluation
  int64_t workers = 0;                // threads that train, each with one model instance; 0 = cores
  std::vector<DeviceClass> devices;   // member i is of kind devices[i % size]; empty: server_core
  std::vector<size_t> sites;          // member i stands at engine.carbon's site sites[i % size]; empty: its grams are not known
  absl::Time start_time = absl::UnixEpoch();  // of virtual time
  bool batteries = false;             // phones and laptops run on batteries that attempts drain and nights fill; otherwise on the mains
  std::function<double(int64_t round)> client_learning_rate_at;  // empty: the plan's
  // Hands the arrived updates of a round to the coordinator in another order; 0 = as virtual time says. For tests of order independence.
  uint64_t arrival_shuffle_seed = 0;
  Meter* server_meter = nullptr;      // the coordinator's own joules; may be null; must outlive the fleet
  RunRecordWriter* record = nullptr;  // may be null; must outlive the fleet
  ModelArchive* archive = nullptr;    // may be null; must outlive the fleet
  std::function<void(const RoundRecord&)> on_round;  // after each round, from the thread in Run
  LogSink log;
};

struct FleetOutcome {
  std::string reason;
  bool target_reached = false;
  int64_t rounds_committed = 0;
  std::vector<float> model;  // what clients would hold next
};

// Owned by one thread; its workers are its own.
class Fleet {
 public:
  // Errors: INVALID_ARGUMENT  no partitions, an empty one, bad options; the trainer factory's
  static absl::StatusOr<std::unique_ptr<Fleet>> Create(FleetOptions options);
  virtual ~Fleet() = default;

  // Runs to the end, or until `stop`. Call once. A participant's failure never fails the run. Errors: the record's or the archive's.
  virtual absl::StatusOr<FleetOutcome> Run(std::stop_token stop) = 0;

  // Its plan names the architecture of FleetOutcome::model, which pruning may have left narrower.
  virtual const GlobalModel& model() const = 0;
};

// Assigns the sites of a model to members by their shares, likewise; indices.
std::vector<size_t> MixSites(const std::vector<CarbonSite>& sites, int64_t members, uint64_t seed);
// Assigns device classes to members by share, deterministically: `mix` pairs a class with its relative share (> 0).
std::vector<DeviceClass> MixDevices(const std::vector<std::pair<DeviceClass, double>>& mix, int64_t members, uint64_t seed);

}  // namespace fedwatt

#endif  // FEDWATT_SIMULATION_FLEET_H_
