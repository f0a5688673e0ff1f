# Options, their defaults, and the flags every target shares.

option(FEDWATT_WITH_TORCH "Build model/torch and everything that trains with LibTorch" ON)
option(FEDWATT_WITH_GRPC "Build proto, rpc, server and client" ON)
option(FEDWATT_WITH_TOOLS "Build the binaries in tool/" ${PROJECT_IS_TOP_LEVEL})
option(FEDWATT_BUILD_EXAMPLES "Build examples/" ${PROJECT_IS_TOP_LEVEL})
option(FEDWATT_BUILD_TESTS "Build tests/" ${PROJECT_IS_TOP_LEVEL})
option(FEDWATT_BUILD_BENCH "Build bench/" OFF)
option(FEDWATT_PLANT_BUGS "Build in the planted bugs by which bench/server/planted_bugs.py measures the fault simulation; never for use" OFF)
option(FEDWATT_BUILD_FUZZERS "Build the libFuzzer targets in tests/fuzz; needs clang" OFF)
set(FEDWATT_SANITIZE "" CACHE STRING "Sanitizers to build with, for instance address,undefined")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(FEDWATT_CCACHE ccache)
if(FEDWATT_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${FEDWATT_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${FEDWATT_CCACHE})
endif()

add_library(fedwatt_flags INTERFACE)
target_compile_options(fedwatt_flags INTERFACE
  -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -ffp-contract=off
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety -Werror=thread-safety>)
if(FEDWATT_BUILD_FUZZERS)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FEDWATT_BUILD_FUZZERS needs clang: cmake --preset fuzz")
  endif()
  # Coverage for the fuzzers to follow; sanitizers for them to find something.
  set(FEDWATT_SANITIZE "address,undefined")
  target_compile_options(fedwatt_flags INTERFACE -fsanitize=fuzzer-no-link -fno-sanitize-recover=all)
endif()
if(FEDWATT_SANITIZE)
  target_compile_options(fedwatt_flags INTERFACE -fsanitize=${FEDWATT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(fedwatt_flags INTERFACE -fsanitize=${FEDWATT_SANITIZE})
endif()
