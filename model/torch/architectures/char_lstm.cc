// The next-character model of McMahan et al. 2017, arXiv 1602.05629, section 3 (Shakespeare): tokens embedded in 8 dimensions, two LSTM layers
// of 256 units, and a linear layer on the last position. input_shape is {length}, output_count the vocabulary.
//
// Options: embedding_size  [1, 65536], 8
//          hidden_size     units of each LSTM layer, [1, 65536], 256
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_char_lstm(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t embedding = options.Integer("embedding_size", 8, 1, 65536);
    const int64_t hidden = options.Integer("hidden_size", 256, 1, 65536);
    return Network{{Embedding{"embedding", embedding}, Lstm{"lstm1", hidden}, Lstm{"lstm2", hidden}, LastPosition{},
                    Linear{"fc", spec.output_count}}};
  };
  FEDWATT_CHECK(registry.Register("char_lstm", describe).ok());
}

}  // namespace fedwatt::internal
