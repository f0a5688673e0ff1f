// A folder that stands for "/", where a test writes sysfs and procfs files.
#ifndef FEDWATT_TESTS_ENERGY_FAKE_ROOT_H_
#define FEDWATT_TESTS_ENERGY_FAKE_ROOT_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace fedwatt::testing {

class FakeRoot {
 public:
  FakeRoot() {
    std::string pattern = ::testing::TempDir() + "/fedwatt_root_XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~FakeRoot() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  const std::string& path() const { return path_; }
  std::string At(const std::string& file) const { return path_ + "/" + file; }
  void Write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(At(file)).parent_path());
    std::ofstream(At(file), std::ios::trunc) << text;
  }
  void Remove(const std::string& file) const { std::filesystem::remove_all(At(file)); }

 private:
  std::string path_;
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_ENERGY_FAKE_ROOT_H_
