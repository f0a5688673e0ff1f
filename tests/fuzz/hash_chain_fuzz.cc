// Audit logs and ledgers are read as far as each line fits all before it, or refused.
// Input: the file's text.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/base/status_macros.h"
#include "tests/fuzz/fuzz_input.h"

namespace fedwatt {

std::vector<std::string> testing::FuzzSeeds() {
  std::string text;
  std::vector<std::string> seeds;
  ChainHead head;
  for (const char* payload : {"{\"event\":\"started\"}", "{\"event\":\"refused\",\"reason\":\"expired\"}", "a b  c"}) {
    head = NextHead(head, payload);
    absl::StrAppend(&text, head.head.Hex(), " ", payload, "\n");
    seeds.push_back(text);
  }
  return seeds;
}

}  // namespace fedwatt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fedwatt;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<std::vector<ChainEntry>> entries = ReadHashChain(text, "fuzz");
  testing::fuzz_accepted = entries.ok();
  if (!entries.ok()) {
    FEDWATT_CHECK(absl::IsDataLoss(entries.status()));
    return 0;
  }
  ChainHead last;
  for (const ChainEntry& entry : *entries) {
    const ChainHead next = NextHead(last, entry.payload);
    FEDWATT_CHECK(next.head == entry.position.head && next.sequence == entry.position.sequence);
    last = next;
  }
  return 0;
}
