// The candidate a person probably meant, for error messages.
#ifndef FEDWATT_BASE_NEAREST_H_
#define FEDWATT_BASE_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace fedwatt {

// The candidate with the smallest edit distance to `word`, or "" if none is within a third of its length (at least 2).
// Ties go to the earlier candidate.
std::string NearestName(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_NEAREST_H_
