#include "streaming.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "streaming.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fedwatt {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void AddToAllKernel(int64_t* sums, size_t count, int64_t term) {
  const hn::ScalableTag<int64_t> d;
  const size_t lanes = hn::Lanes(d);
  const auto terms = hn::Set(d, term);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, sums + i), terms), d, sums + i);
  for (; i < count; ++i) sums[i] += term;
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fedwatt {

HWY_EXPORT(AddToAllKernel);
void AddToAll(int64_t* sums, size_t count, int64_t term) { HWY_DYNAMIC_DISPATCH(AddToAllKernel)(sums, count, term); }

}  // namespace fedwatt
#endif  // HWY_ONCE
