#include "fedwatt/rpc/held_plan.h"

#include "fedwatt/base/digest.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace fedwatt {

std::string PlanId(const v1::Plan& plan) {
  v1::Plan lasting = plan;
  lasting.mutable_recipe()->clear_client_learning_rate();
  lasting.clear_uplink_codec();
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);  // maps have no order of their own
    lasting.SerializeToCodedStream(&coded);
  }
  return Sha256(bytes).Raw().substr(0, 8);
}

}  // namespace fedwatt
