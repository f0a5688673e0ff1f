// What a run delivers beside its float32 model.
#ifndef FEDWATT_MODEL_INT8_DELIVERY_H_
#define FEDWATT_MODEL_INT8_DELIVERY_H_

#include <cstdint>
#include <optional>
#include <string>

namespace fedwatt {

// The model as 8-bit integers, or the reason why there is none.
struct Int8Delivery {
  std::optional<std::string> path;              // unset when there is none
  std::optional<std::string> missing_reason;    // why there is none
  std::optional<int64_t> bytes;                 // of the file
  std::optional<int64_t> calibration_examples;  // that its activation ranges come from; null where clients found them in training
  std::optional<double> accuracy;               // fraction, of the integer model itself on the coordinator's test data; null when that is not used
};

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_INT8_DELIVERY_H_
