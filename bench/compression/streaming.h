#ifndef FEDWATT_BENCH_COMPRESSION_STREAMING_H_
#define FEDWATT_BENCH_COMPRESSION_STREAMING_H_

#include <cstddef>
#include <cstdint>

namespace fedwatt {

// sums[i] += term, with the widest vectors of this machine: reads and writes 8 bytes a value, which a dense fold into int64 sums cannot do without.
void AddToAll(int64_t* sums, size_t count, int64_t term);

}  // namespace fedwatt

#endif  // FEDWATT_BENCH_COMPRESSION_STREAMING_H_
